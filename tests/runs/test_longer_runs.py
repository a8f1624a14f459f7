"""`--resume` with a larger `--max_steps` has the bits and rows of the longer run, or says why it cannot."""

import logging
import re

import numpy as np
import pytest
from driver import Driver, contents, outcome, rows
from training_runs import ARRAYS

import xql_jax
from xql_jax.errors import UserError
from xql_jax.files import read_record
from xql_jax.runs.load import load_run

# 10 is no multiple of either interval: there the shorter run has rows because it ends, the longer has none.
SHORT, LONG = {"max_steps": 10}, {"max_steps": 18}
SETTINGS = {
    "env_name": "driver:Drift-v0", "dataset": ARRAYS, "method": "training_runs:Growth", "num_seeds": 2,
    "batch_size": 4, "log_interval": 4, "eval_interval": 6, "checkpoint_interval": 6, "eval_episodes": 2,
}  # fmt: skip


@pytest.fixture
def make(tmp_path):
    return lambda name="run", **changes: Driver(xql_jax.train, tmp_path / name, SETTINGS | changes)


def unbroken(make, **changes):
    return outcome(make("unbroken").resume(**LONG | changes))


def test_a_run_that_goes_on_is_the_long_one(make):
    run, expected = make(), unbroken(make)
    shorter, longer = run.resume(**SHORT), run.resume(**LONG)
    assert longer == shorter == run.path
    assert run.outcome() == expected
    before = contents(run.path)
    assert run.resume(**LONG) == run.path  # it had ended
    content = load_run(run.path).record
    assert (content["max_steps"], [each["after_step"] for each in content["resumed"]]) == (18, [10])
    told = "at update 18 already: give --max_steps=18 or more, or for a shorter run another --save_dir"
    with pytest.raises(UserError, match=told):
        run.resume(**SHORT)
    assert contents(run.path) == before


def test_a_shorter_run_whose_last_evaluation_was_interrupted_goes_on(make):
    """An evaluation has 2 x 2 episodes of three steps; 6 + 32 are tried before."""
    run, expected = make(), unbroken(make)
    run.step(6 + 32 + 12 + 5, of=("step",), **SHORT)
    summary = load_run(run.path).summary
    assert (summary["status"], summary["step"]) == ("interrupted", 10)
    assert outcome(run.resume(**LONG)) == expected


def test_a_longer_run_that_failed_can_be_left_at_the_shorter_one(make):
    """The file has a row of the longer run, 12, where the checkpoint has 10, at which the shorter ended."""
    run, expected, shorter = make(), unbroken(make), make("shorter")
    shorter.resume(**SHORT)

    def failing(step, numbers):
        assert step < 12

    run.resume(**SHORT)
    with pytest.raises(AssertionError):
        run.resume(failing, **LONG)
    run.resume(**SHORT)
    assert run.outcome() == shorter.outcome()
    assert outcome(run.resume(**LONG)) == expected


def test_a_longer_run_can_end_where_it_was_stopped(make):
    """Its checkpoint of step 10 has no row of that step: no interval of the longer run ends there."""
    run, expected, shorter = make(checkpoint_interval=5), unbroken(make), make("shorter")
    shorter.resume(**SHORT)

    def failing(step, numbers):
        assert step < 12

    with pytest.raises(AssertionError):
        run.resume(failing, **LONG)
    for _ in range(2):
        run.resume(**SHORT)
        assert run.outcome() == shorter.outcome()
        (run.path / "summary.json").unlink()
    assert outcome(run.resume(**LONG)) == expected


@pytest.mark.parametrize("damaged", [(18,), (12, 18), (10, 12, 18)])
def test_a_longer_run_whose_end_is_damaged_goes_on_as_the_long_one(make, damaged):
    """From step 12, from 10, where the shorter run ended, and from 6."""
    run, expected = make(keep_checkpoints=0), unbroken(make)
    run.resume(**SHORT)
    run.resume(**LONG)
    (run.path / "summary.json").unlink()
    for step in damaged:
        (run.path / "checkpoints" / str(step) / "states.npz").write_bytes(b"")
    assert outcome(run.resume(**LONG)) == expected
    assert read_record(run.path / "config.json")["resumed"][-1]["after_step"] == (12, 10, 6)[len(damaged) - 1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"decay_actor_lr": True}, r"falls to 0 at the last update \(decay_actor_lr"),
        ({"ramp": "beta=2:1"}, r"--ramp changes over all updates"),
    ],
)
def test_a_run_whose_numbers_depend_on_its_length_begins_anew_and_says_why(make, caplog, changes, told):
    run = make(
        **{"method": "xql", "hidden_dims": (4,), "decay_actor_lr": False, "eval_episodes": 0} | changes
    )
    shorter = run.resume(**SHORT)
    before = contents(shorter)
    caplog.clear()
    assert run.resume(**LONG) != shorter
    assert contents(shorter) == before
    [line] = [line for line in caplog.messages if str(shorter) in line]
    assert re.search(told, line), line


def test_an_online_run_says_that_a_longer_one_begins_anew(tmp_path, caplog):
    settings = {
        "env_name": "driver:Drift-v0", "method": "td3", "hidden_dims": (4,), "batch_size": 4,
        "warmup_steps": 4, "log_interval": 2, "eval_interval": 2, "bellman_error_interval": 0,
        "eval_episodes": 0,
    }  # fmt: skip
    run = Driver(xql_jax.train_online, tmp_path, settings)
    shorter = run.resume(max_steps=6)
    with caplog.at_level(logging.WARNING):
        assert run.resume(max_steps=8) != shorter
    assert f"{shorter} has the same settings but for --max_steps" in caplog.text


def test_a_resumed_run_knows_the_metrics_of_the_last_update(tmp_path):
    """There is an update every 20 steps, and a row every 4: those of steps 24 to 36 show the one at 20."""
    settings = {
        "env_name": "driver:Drift-v0", "method": "td3", "hidden_dims": (4,), "batch_size": 4, "max_steps": 48,
        "warmup_steps": 0, "updates_per_step": 0.05, "log_interval": 4, "eval_interval": 48,
        "bellman_error_interval": 0, "eval_episodes": 0,
    }  # fmt: skip
    run = Driver(xql_jax.train_online, tmp_path, settings)
    run.resume(lambda step, numbers: step == 28)
    run.resume()
    losses = {int(row["step"]): row["critic/loss"] for row in rows(run.path / "metrics.csv")}
    assert losses[20] == losses[24] == losses[28] == losses[32] == losses[36] != losses[40]
    assert all(np.isfinite(float(loss)) for loss in losses.values())


def test_without_resume_a_longer_run_is_refused(make):
    shorter = make().resume(**SHORT)
    with pytest.raises(UserError, match=f"this run exists: {shorter}; go on with --resume"):
        make().resume(resume=False, **LONG)


def test_more_seeds_are_those_of_the_larger_run(make):
    """Seeds 44 and 45, trained as another run beside 42 and 43, are those of a run of all four."""
    there = make().resume(**SHORT)
    before = contents(there)
    added = make().resume(seed=44, **SHORT)
    assert contents(there) == before
    larger = make("larger").resume(num_seeds=4, **SHORT)
    (ours, *_), (theirs, *_) = outcome(added), outcome(larger)
    assert {name[:6] for name in ours} == {"seed44", "seed45"}
    assert ours == {name: theirs[name] for name in ours}
    assert rows(larger / "evaluations.csv")[2:4] == rows(added / "evaluations.csv")[:2]


def test_an_evaluation_before_the_first_update_changes_no_other_row(make):
    usual, started = make().resume(**SHORT), make().resume(eval_at_start=True, **SHORT)
    assert started != usual
    first, second, *others = rows(started / "evaluations.csv")
    assert [(row["step"], row["seed"]) for row in (first, second)] == [("0", "42"), ("0", "43")]
    assert others == rows(usual / "evaluations.csv")
    assert rows(started / "metrics.csv") == rows(usual / "metrics.csv")
    assert outcome(started)[0] == outcome(usual)[0]
