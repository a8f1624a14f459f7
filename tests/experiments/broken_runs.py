"""What the tests share that break runs of train_offline.py: a short run, and how to compare two."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from main_runs import MAIN, ROOT, run_folder, write_dataset

MAX_STEPS = 600
ARGUMENTS = (
    "--env_name=pointmaze-umaze-v0", "--config.hidden_dims=(16,16)", "--batch_size=32", "--num_seeds=2",
    f"--max_steps={MAX_STEPS}", "--log_interval=50", "--eval_interval=200", "--checkpoint_interval=100",
    "--eval_episodes=2", "--notqdm",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bench:
    """One dataset and compilation cache for all runs: with it a restart costs three seconds, not nine."""

    folder: Path

    @classmethod
    def make(cls, folder):
        write_dataset(folder / "data.npz")
        return cls(folder)

    def start(self, save_dir, *arguments, prefix=(), log=None, main=MAIN, **options):
        """The run's process; what it says goes to the bench's log, or where `log` says."""
        environment = {
            "PYTHONPATH": str(ROOT),
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        with (self.folder / "log").open("a") as file:
            return subprocess.Popen(
                [*prefix, sys.executable, str(main), *ARGUMENTS, f"--dataset={self.folder / 'data.npz'}",
                 f"--save_dir={save_dir}", *arguments],
                env={**os.environ, **environment}, stdout=log or file, stderr=log or file, **options,
            )  # fmt: skip

    def finish(self, process, timeout=120):
        try:
            return process.wait(timeout)
        finally:
            process.kill()

    def killed_after(self, seconds, save_dir, *arguments, **options):
        """Kills the run after so many seconds of its life; false if it had ended, as it should."""
        process = self.start(save_dir, *arguments, **options)
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        code = self.finish(process)
        assert code in (0, -signal.SIGKILL), self.log()
        return code != 0

    def run(self, save_dir, *arguments, **options):
        """The folder of a run that is let alone."""
        assert self.finish(self.start(save_dir, *arguments, **options)) == 0, self.log()
        return run_folder(save_dir)

    def log(self):
        return (self.folder / "log").read_text()


def checkpoint_steps(run):
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


def arrays(run):
    """The last checkpoint's arrays by name, of all members, and its step."""
    step = checkpoint_steps(run)[-1]
    with np.load(run / "checkpoints" / str(step) / "states.npz") as file:
        return step, dict(file)


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
    assert len(states) > 2 * 20  # networks, targets, moments
    for name, array in states.items():
        assert array.tobytes() == expected_states[name].tobytes(), name
    for file in ("metrics.csv", "evaluations.csv"):
        assert rows(run / file) == rows(expected / file)
    summaries = [json.loads((path / "summary.json").read_text()) for path in (run, expected)]
    for key in ("status", "step", "results", "diverged"):
        assert summaries[0][key] == summaries[1][key]
    for picture in ("learning_curve.png", "maze.png"):
        assert (run / picture).stat().st_size > 0
