"""Runs of every kind killed at random moments and resumed, against one that nobody disturbed.

Offline and compiled, the bits are the same everywhere. With environments on the host, episodes begin anew:
every row is written once, those of an offline phase are the same, and no transition is lost.
"""

import json
import os
import random
import signal
import time

import jax
import numpy as np
import pytest
from broken_runs import HANDOVER, KINDS, MAX_STEPS, arrays, assert_same_run, checkpoint_steps
from driver import rows, run_folder

from xql_jax.training.replay_files import ReplayFiles
from xql_jax.types import Batch, EpisodeBatch

# XQL_JAX_KILLS=50 python -m pytest tests/experiments/test_kills.py: the long version.
KILLS = int(os.environ.get("XQL_JAX_KILLS", "2"))
GENERATOR = random.Random(int(os.environ.get("XQL_JAX_KILL_SEED", "0")))
SIZES = {
    "online": (3, 1),
    "finetuned": (4, 2),
    "chunked": (4, 2),
}  # of observations and actions, where a buffer is on the host
pytestmark = pytest.mark.slow


def steps_of(save_dir):
    """The steps of the rows that metrics.csv has so far."""
    lines = [
        line for path in save_dir.glob("*/*/*/metrics.csv") for line in path.read_text().splitlines()[1:]
    ]
    return [int(line.split(",")[0]) for line in lines]


def wait_for(process, save_dir, step):
    """Waits until the run has a row of that step, or has ended."""
    while process.poll() is None and max(steps_of(save_dir), default=-1) < step:
        time.sleep(0.001)


def assert_whole(run, expected, kind):
    if kind not in SIZES:
        assert_same_run(run, expected)
        return
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    for name in ("metrics.csv", "evaluations.csv"):
        found, wanted = rows(run / name), rows(expected / name)
        assert [(row["step"], row["seed"]) for row in found] == [(row["step"], row["seed"]) for row in wanted]
        first_phase = [row for row in wanted if kind != "online" and int(row["step"]) <= HANDOVER]
        assert found[: len(first_phase)] == first_phase
    run_id, last = json.loads((run / "config.json").read_text())["run"], arrays(run)[0]
    observation, action = SIZES[kind]
    shapes = (1, observation), (1, action), (1,), (1,), (1, observation)
    fields = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    like = EpisodeBatch(*fields, fields[2]) if kind == "chunked" else Batch(*fields)
    for folder in (run / "replay").iterdir():
        first, batch = ReplayFiles(folder, f"{run_id} {folder.name}").read(None, like)
        assert first + len(batch.rewards) == (last - HANDOVER if kind != "online" else last)
        # A row goes on from the one before, unless an episode or a life of the process ended between them.
        assert (batch.observations[1:] == batch.next_observations[:-1]).all(1).mean() > 0.9


@pytest.fixture(scope="module", params=KINDS)
def undisturbed(request, bench):
    """The kind, the folder of a run, and the steps at which it logs."""
    run = bench.run(bench.folder / request.param, kind=request.param)
    return request.param, run, sorted({int(row["step"]) for row in rows(run / "metrics.csv")})


def test_sigkill_at_random_moments(bench, undisturbed):
    """At start-up, between rows, in writes, in both phases; a run that escapes is compared."""
    kind, expected, steps = undisturbed
    assert_whole(expected, expected, kind)
    attempt = 0
    for number in range(KILLS):
        save_dir = bench.folder / f"killed {kind} {attempt}"
        half = len(steps) // 2  # in fine-tuning the hand-over
        process = bench.start(save_dir, kind=kind)
        wait_for(
            process, save_dir, GENERATOR.choice([-1, *steps[:half]] if number % 2 == 0 else steps[half:-1])
        )
        time.sleep(GENERATOR.uniform(0.0, 0.1))  # seconds
        process.kill()
        code = bench.finish(process)
        assert code in (0, -signal.SIGKILL), bench.log()
        if code == 0:
            assert_whole(run_folder(save_dir), expected, kind)
            attempt += 1
    assert_whole(bench.run(bench.folder / f"killed {kind} {attempt}", kind=kind), expected, kind)


def test_signals_leave_a_checkpoint_from_which_the_run_goes_on(bench, unbroken):
    save_dir, step = bench.folder / "stopped", 0
    for number in (signal.SIGTERM, signal.SIGINT):
        process = bench.start(save_dir)
        wait_for(process, save_dir, step + 50)
        process.send_signal(number)
        assert bench.finish(process) == 128 + number, bench.log()
        run, before = run_folder(save_dir), step
        step = arrays(run)[0]
        assert before < step < MAX_STEPS
        summary = json.loads((run / "summary.json").read_text())
        assert (summary["status"], summary["step"]) == ("interrupted", step)
        assert int(rows(run / "metrics.csv")[-1]["step"]) <= step
    assert_same_run(bench.run(save_dir), unbroken)
    assert "Traceback" not in bench.log()


def test_checkpoints_by_the_clock_change_no_bit(bench, unbroken):
    run = bench.run(bench.folder / "clock", "--checkpoint_interval=600", "--checkpoint_minutes=1e-4")
    assert checkpoint_steps(run) == [500, 550, 600]  # at every call's end, and those are at the rows
    assert_same_run(run, unbroken)
