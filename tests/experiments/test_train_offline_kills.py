"""Runs killed at random moments and resumed, against one that nobody disturbed: the same bits everywhere."""

import json
import os
import random
import signal
import time

import pytest
from broken_runs import MAX_STEPS, arrays, assert_same_run, checkpoint_steps, rows, run_folder

# XQL_JAX_KILLS=50 python -m pytest tests/experiments/test_train_offline_kills.py: the long version.
KILLS = int(os.environ.get("XQL_JAX_KILLS", "3"))
SEED = int(os.environ.get("XQL_JAX_KILL_SEED", "0"))
pytestmark = pytest.mark.slow


def test_unbroken_run_has_every_row(unbroken):
    steps = [
        [int(row[0]) for row in rows(unbroken / name)[1:]] for name in ("metrics.csv", "evaluations.csv")
    ]
    assert steps == [
        [step for step in range(50, 601, 50) for _ in range(2)],
        [step for step in (200, 400, 600) for _ in range(2)],
    ]
    assert checkpoint_steps(unbroken) == [400, 500, 600]
    assert len(list((unbroken / "checkpoints").iterdir())) == 3  # and nothing else


@pytest.fixture(scope="module")
def again(bench, unbroken):
    """The same run once more, its programs read from the cache; and the seconds that it took."""
    began = time.monotonic()
    return bench.run(bench.folder / "again"), time.monotonic() - began


def test_the_compilation_cache_changes_no_bit(unbroken, again):
    assert_same_run(again[0], unbroken)


def test_checkpoints_by_the_clock_change_no_bit(bench, unbroken):
    run = bench.run(bench.folder / "clock", "--checkpoint_interval=600", "--checkpoint_minutes=1e-4")
    assert checkpoint_steps(run) == [500, 550, 600]  # at every call's end, and those are at the rows
    assert_same_run(run, unbroken)


def test_sigkill_at_random_moments(bench, unbroken, again):
    """Kills at any moment of a run's life, start-up and writes included; a run that escapes is compared."""
    generator = random.Random(SEED)
    kills = runs = 0
    while kills < KILLS:
        save_dir = bench.folder / f"killed {runs}"
        if bench.killed_after(generator.uniform(0.0, again[1]), save_dir, "--resume"):
            kills += 1
        else:
            assert_same_run(run_folder(save_dir), unbroken)
            runs += 1
    assert_same_run(bench.run(bench.folder / f"killed {runs}", "--resume"), unbroken)


def test_sigkill_when_a_file_appears(bench, unbroken):
    """Kills at chosen moments: at the first row, in the first checkpoint's write, before the summary's."""
    save_dir = bench.folder / "killed at files"
    for name in ("metrics.csv", "checkpoints", "learning_curve.png"):
        process = bench.start(save_dir, "--resume")
        while process.poll() is None and not appeared(save_dir, name):
            time.sleep(0.001)
        process.kill()
        assert bench.finish(process) in (0, -signal.SIGKILL), bench.log()
    assert_same_run(bench.run(save_dir, "--resume"), unbroken)


# What appears while a checkpoint is written.
PARTS = (
    "*.tmp", "*.tmp/*.orbax-checkpoint-tmp/manifest.ocdbt", "[0-9]*[0-9]", "*.tmp/checkpoint.json",
    "*.tmp/*.orbax-checkpoint-tmp/**/d/*", "*.tmp/states", "*.tmp/*.orbax-checkpoint-tmp",
)  # fmt: skip


def test_sigkill_in_the_midst_of_a_checkpoint_write(bench, unbroken):
    """Kills as soon as a part of a checkpoint that was not there appears."""
    killed = partial = attempt = 0
    for number in range(max(3, KILLS // 2)):
        save_dir = bench.folder / f"killed in a write {attempt}"
        pattern = f"*/*/*/checkpoints/{PARTS[number % len(PARTS)]}"
        process = bench.start(save_dir, "--resume")
        before = None
        while process.poll() is None:
            found = set(save_dir.glob(pattern))
            if before is not None and found - before:
                break
            before = found if before is None else before & found
        process.kill()
        code = bench.finish(process)
        assert code in (0, -signal.SIGKILL), bench.log()
        killed += code != 0
        partial += any(save_dir.glob("*/*/*/checkpoints/*.tmp"))
        if code == 0:
            assert_same_run(run_folder(save_dir), unbroken)
            attempt += 1
    assert killed >= 2
    assert partial >= 1  # writes that were indeed cut short
    assert_same_run(bench.run(save_dir, "--resume"), unbroken)


def test_sigkill_right_after_the_last_update(bench, unbroken):
    """The rows of the last evaluation are there, the last checkpoint is being written."""
    save_dir = bench.folder / "killed at the end"
    process = bench.start(save_dir, "--resume")
    while process.poll() is None and not any(
        f"\n{MAX_STEPS}," in path.read_text() for path in save_dir.glob("*/*/*/evaluations.csv")
    ):
        pass
    process.kill()
    assert bench.finish(process) == -signal.SIGKILL, bench.log()
    run = run_folder(save_dir)
    assert not (run / "summary.json").exists()
    assert_same_run(bench.run(save_dir, "--resume"), unbroken)


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
    assert_same_run(bench.run(save_dir, "--resume"), unbroken)


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
