"""Runs killed at random moments and resumed, against one that nobody disturbed: the same bits everywhere."""

import csv
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from main_runs import MAIN, ROOT, write_dataset

# XQL_JAX_KILLS=50 python -m pytest tests/experiments/test_train_offline_kills.py: the long version.
KILLS = int(os.environ.get("XQL_JAX_KILLS", "3"))
SEED = int(os.environ.get("XQL_JAX_KILL_SEED", "0"))
MAX_STEPS = 600
pytestmark = pytest.mark.slow
ARGUMENTS = (
    "--env_name=pointmaze-umaze-v0", "--config.hidden_dims=(16,16)", "--batch_size=32", "--num_seeds=2",
    f"--max_steps={MAX_STEPS}", "--log_interval=50", "--eval_interval=200", "--checkpoint_interval=100",
    "--eval_episodes=2", "--notqdm",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bench:
    """One dataset and compilation cache for all runs: with it a restart costs three seconds, not nine."""

    folder: Path

    def start(self, save_dir, *arguments):
        environment = {
            "PYTHONPATH": str(ROOT),
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, str(MAIN), *ARGUMENTS, f"--dataset={self.folder / 'data.npz'}",
                 f"--save_dir={save_dir}", *arguments],
                env={**os.environ, **environment}, stdout=log, stderr=log,
            )  # fmt: skip

    def finish(self, process, timeout=120):
        try:
            return process.wait(timeout)
        finally:
            process.kill()

    def log(self):
        return (self.folder / "log").read_text()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    write_dataset(folder / "data.npz")
    return Bench(folder)


@pytest.fixture(scope="module")
def unbroken(bench):
    """The folder of a run that compiles its programs."""
    assert bench.finish(bench.start(bench.folder / "unbroken")) == 0, bench.log()
    return run_folder(bench.folder / "unbroken")


def run_folder(save_dir):
    (config,) = save_dir.rglob("config.json")
    return config.parent


def arrays(run):
    """The last checkpoint's arrays by name, and its step."""
    step = max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    tree = ocp.StandardCheckpointer().restore(run / "checkpoints" / str(step) / "states")
    return step, dict(flatten(tree, ""))


def flatten(tree, name):
    if isinstance(tree, dict | list | tuple):
        for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from flatten(branch, f"{name}/{key}")
    elif tree is not None:
        yield name, np.asarray(tree)


def rows(path):
    """A CSV file's rows without `seconds`; every row is whole."""
    with path.open(newline="") as file:
        header, *found = csv.reader(file)
    assert all(len(row) == len(header) for row in found)
    assert header[-1] == "seconds"
    return [row[:-1] for row in (header, *found)]


def assert_same_run(run, expected):
    step, states = arrays(run)
    expected_step, expected_states = arrays(expected)
    assert step == expected_step == MAX_STEPS
    assert states.keys() == expected_states.keys()
    assert len(states) > 20  # networks, targets, moments
    for name, array in states.items():
        assert array.tobytes() == expected_states[name].tobytes(), name
    for file in ("metrics.csv", "evaluations.csv"):
        assert rows(run / file) == rows(expected / file)
    summaries = [json.loads((path / "summary.json").read_text()) for path in (run, expected)]
    for key in ("status", "step", "results", "diverged"):
        assert summaries[0][key] == summaries[1][key]


def test_unbroken_run_has_every_row(unbroken):
    steps = [
        [int(row[0]) for row in rows(unbroken / name)[1:]] for name in ("metrics.csv", "evaluations.csv")
    ]
    assert steps == [
        [step for step in range(50, 601, 50) for _ in range(2)],
        [step for step in (200, 400, 600) for _ in range(2)],
    ]
    assert sorted(int(path.name) for path in (unbroken / "checkpoints").iterdir()) == [400, 500, 600]


@pytest.fixture(scope="module")
def again(bench, unbroken):
    """The same run once more, its programs read from the cache; and the seconds that it took."""
    began = time.monotonic()
    assert bench.finish(bench.start(bench.folder / "again")) == 0, bench.log()
    return run_folder(bench.folder / "again"), time.monotonic() - began


def test_the_compilation_cache_changes_no_bit(unbroken, again):
    assert_same_run(again[0], unbroken)


def test_sigkill_at_random_moments(bench, unbroken, again):
    """Kills at any moment of a run's life, start-up and writes included; a run that escapes is compared."""
    generator = random.Random(SEED)
    kills = runs = 0
    while kills < KILLS:
        save_dir = bench.folder / f"killed {runs}"
        process = bench.start(save_dir, "--resume")
        deadline = time.monotonic() + generator.uniform(0.0, again[1])
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        code = bench.finish(process)
        assert code in (0, -signal.SIGKILL), bench.log()
        kills += code != 0
        if code == 0:
            assert_same_run(run_folder(save_dir), unbroken)
            runs += 1
    save_dir = bench.folder / f"killed {runs}"
    assert bench.finish(bench.start(save_dir, "--resume")) == 0, bench.log()
    assert_same_run(run_folder(save_dir), unbroken)


def test_sigkill_when_a_file_appears(bench, unbroken):
    """Kills at chosen moments: at the first row, in the first checkpoint's write, before the summary's."""
    save_dir = bench.folder / "killed at files"
    for name in ("metrics.csv", "checkpoints", "learning_curve.png"):
        process = bench.start(save_dir, "--resume")
        while process.poll() is None and not appeared(save_dir, name):
            time.sleep(0.001)
        process.kill()
        assert bench.finish(process) in (0, -signal.SIGKILL), bench.log()
    assert bench.finish(bench.start(save_dir, "--resume")) == 0, bench.log()
    assert_same_run(run_folder(save_dir), unbroken)


def appeared(save_dir, name):
    """Is there something in the run's file or folder of that name?"""
    paths = list(save_dir.glob(f"*/*/*/{name}"))
    return bool(paths) and (any(paths[0].iterdir()) if paths[0].is_dir() else paths[0].stat().st_size > 0)


def test_sigterm_leaves_a_checkpoint_from_which_the_run_goes_on(bench, unbroken):
    for attempt in range(5):  # a run that was quicker than the signal is not meant
        save_dir = bench.folder / f"terminated {attempt}"
        process = bench.start(save_dir, "--resume")
        while process.poll() is None and not appeared(save_dir, "metrics.csv"):
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        if bench.finish(process) == 128 + signal.SIGTERM:
            break
    assert process.returncode == 143, bench.log()
    run = run_folder(save_dir)
    step = arrays(run)[0]
    assert 0 < step < MAX_STEPS
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("interrupted", step)
    assert int(rows(run / "metrics.csv")[-1][0]) <= step
    process = bench.start(save_dir, "--resume")
    assert bench.finish(process) == 0, bench.log()
    assert_same_run(run, unbroken)


def test_sigint_ends_a_run_without_an_end_in_sight(bench):
    save_dir = bench.folder / "interrupted"
    process = bench.start(save_dir, "--max_steps=1000000000", "--log_interval=7")
    while process.poll() is None and not appeared(save_dir, "metrics.csv"):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert bench.finish(process) == 128 + signal.SIGINT, bench.log()
    run = run_folder(save_dir)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("interrupted", arrays(run)[0])
    assert "Traceback" not in bench.log()
