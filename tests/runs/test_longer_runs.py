"""`--resume` with a larger `--max_steps` has the bits and rows of the longer run, or says why it cannot."""

import logging
import re

import pytest
from tiny_runs import (
    assert_same_bits,
    assert_same_rows,
    contents,
    offline_settings,
    online_settings,
    small,
    states_of,
    untimed,
    write_dataset,
)

from xql_jax.errors import UserError
from xql_jax.runs.load import load_run
from xql_jax.runs.train import train_run
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.signals import StopSignals

# 10 is no multiple of either interval: there the shorter run has rows because it ends, the longer has none.
SHORT, LONG = 10, 18


@pytest.fixture
def settings(tmp_path):
    write_dataset(tmp_path / "data.npz")

    def make(max_steps, save_dir="runs", method="bc", **changes):
        config = small(method, decay_actor_lr=False)
        changes = {"config": config, "save_dir": str(tmp_path / save_dir), "num_seeds": 2, **changes}
        return offline_settings(tmp_path, max_steps=max_steps, **changes)

    return make


def assert_same_runs(summary, expected, steps):
    assert summary.path.name == expected.path.name
    assert_same_bits(states_of(summary, steps), states_of(expected, steps))
    assert_same_rows(summary, expected)
    for key in ("results", "diverged", "status", "step"):
        assert summary.summary[key] == expected.summary[key]


def test_a_run_that_goes_on_is_the_long_one(settings):
    expected = train_run(settings(LONG, "unbroken"))
    shorter = train_run(settings(SHORT))
    longer = train_run(settings(LONG, resume=True))
    assert longer.path == shorter.path
    assert_same_runs(longer, expected, LONG)
    assert train_run(settings(LONG, resume=True)).had_ended
    run = load_run(longer.path)
    assert run.content["max_steps"] == LONG
    assert [each["after_step"] for each in run.content["resumed"]] == [SHORT]
    before = contents(longer.path)
    told = "at update 18 already: give --max_steps=18 or more, or for a shorter run another --save_dir"
    with pytest.raises(UserError, match=told):
        train_run(settings(SHORT, resume=True))
    assert contents(longer.path) == before


def test_a_shorter_run_whose_last_evaluation_was_interrupted_goes_on(settings, monkeypatch):
    expected, stop = train_run(settings(LONG, "unbroken")), StopSignals()
    train = TrainingLoop._train

    def stopped_at_the_end(loop, end):
        given = train(loop, end)
        if end == SHORT:
            stop.request()
        return given

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_train", stopped_at_the_end)
        begun = train_run(settings(SHORT), stop)
    assert (begun.summary["status"], begun.summary["step"]) == ("interrupted", SHORT)
    assert_same_runs(train_run(settings(LONG, resume=True)), expected, LONG)


@pytest.mark.parametrize("damaged", [(18,), (12, 18), (10, 12, 18)])
def test_a_longer_run_whose_end_is_damaged_goes_on_as_the_long_one(settings, damaged):
    """From step 12, from 10, where the shorter run ended, and from 6."""
    changes = {"checkpoint_interval": 6, "keep_checkpoints": 0}
    expected = train_run(settings(LONG, "unbroken", **changes))
    train_run(settings(SHORT, **changes))
    longer = train_run(settings(LONG, resume=True, **changes))
    (longer.path / "summary.json").unlink()
    for step in damaged:
        (longer.path / "checkpoints" / str(step) / "states.npz").write_bytes(b"")
    assert_same_runs(train_run(settings(LONG, resume=True, **changes)), expected, LONG)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": small("bc", decay_actor_lr=True)}, r"falls to 0 at the last update \(decay_actor_lr"),
        ({"method": "xql", "ramp": "beta=2:1"}, r"--ramp changes over all updates"),
    ],
)
def test_a_run_whose_numbers_depend_on_its_length_begins_anew_and_says_why(settings, caplog, changes, told):
    shorter = train_run(settings(SHORT, eval_episodes=0, **changes))
    before = contents(shorter.path)
    with caplog.at_level(logging.WARNING):
        longer = train_run(settings(LONG, eval_episodes=0, resume=True, **changes))
    assert longer.path != shorter.path
    assert contents(shorter.path) == before
    [line] = [record.getMessage() for record in caplog.records]
    assert str(shorter.path) in line
    assert re.search(told, line), line


def test_an_online_run_says_that_a_longer_one_begins_anew(tmp_path, caplog):
    shorter = train_run(online_settings(tmp_path, max_steps=6, eval_episodes=0))
    with caplog.at_level(logging.WARNING):
        longer = train_run(online_settings(tmp_path, max_steps=8, eval_episodes=0, resume=True))
    assert longer.path != shorter.path
    assert f"{shorter.path} has the same settings but for --max_steps" in caplog.text


def test_without_resume_a_longer_run_is_refused(settings):
    shorter = train_run(settings(SHORT, eval_episodes=0))
    with pytest.raises(UserError, match=f"this run exists: {shorter.path}; go on with --resume"):
        train_run(settings(LONG, eval_episodes=0))


def test_more_seeds_are_those_of_the_larger_run(settings):
    """Seeds 44 and 45, trained as another run beside 42 and 43, are those of a run of all four."""
    there = train_run(settings(SHORT))
    before = contents(there.path)
    added = train_run(settings(SHORT, seed=44))
    assert contents(there.path) == before
    larger = train_run(settings(SHORT, "larger", num_seeds=4))
    ours, theirs = states_of(added, SHORT), states_of(larger, SHORT)
    assert sorted(ours) == ["seed44", "seed45"]
    assert_same_bits(ours, {name: theirs[name] for name in ours})
    assert untimed(larger.path / "evaluations.csv")[3:5] == untimed(added.path / "evaluations.csv")[1:3]


def test_an_evaluation_before_the_first_update_changes_no_other_row(settings):
    usual, started = train_run(settings(SHORT)), train_run(settings(SHORT, eval_at_start=True))
    assert started.path != usual.path
    header, *rows = untimed(started.path / "evaluations.csv")
    assert [row.split(",")[:2] for row in rows[:2]] == [["0", "42"], ["0", "43"]]
    assert [header, *rows[2:]] == untimed(usual.path / "evaluations.csv")
    assert_same_rows(started, usual, "metrics.csv")
    assert_same_bits(states_of(started, SHORT), states_of(usual, SHORT))
