"""`--extend`: a shorter run that goes on has the bits and rows of the longer one, or says why it cannot."""

import dataclasses

import pytest
from tiny_runs import (
    assert_same_bits,
    assert_same_rows,
    breaking,
    contents,
    offline_settings,
    small,
    states_of,
    stopped_at,
    untimed,
    write_dataset,
)

from xql_jax.errors import UserError
from xql_jax.runs.kinds import train_run as run_offline
from xql_jax.runs.load import SavedRun

# 10 is no multiple of either interval: there the shorter run has rows because it ends, the longer has none.
SHORT, LONG = 10, 18


@pytest.fixture
def settings(tmp_path):
    write_dataset(tmp_path / "data.npz")

    def make(max_steps, save_dir="runs", **changes):
        config = small("bc", decay_actor_lr=False)
        changes = {"config": config, "save_dir": str(tmp_path / save_dir), "num_seeds": 2, **changes}
        return offline_settings(tmp_path, max_steps=max_steps, **changes)

    return make


def test_an_extended_run_is_the_long_one(settings, monkeypatch):
    expected = run_offline(settings(LONG, "unbroken"))
    shorter = run_offline(settings(SHORT))
    before = contents(shorter.path)
    read = SavedRun.progress.fget  # as if the evaluation at its end had been interrupted
    with monkeypatch.context() as patch:
        interrupted = property(lambda run: dataclasses.replace(read(run), evaluation_due=True))
        patch.setattr(SavedRun, "progress", interrupted)
        extended = run_offline(settings(LONG, extend=True))
    assert contents(shorter.path) == before
    assert extended.path.name == expected.path.name
    assert_same_bits(states_of(extended, LONG), states_of(expected, LONG))
    assert_same_rows(extended, expected)
    # Asked for again it has ended, and without --extend it is there as any other run.
    assert run_offline(settings(LONG, extend=True)).had_ended
    assert run_offline(settings(LONG, resume=True)).had_ended


def test_a_divergence_that_only_the_last_evaluation_found_is_not_the_longer_runs(settings, monkeypatch):
    """Seed 42 is found at step 6 by both; seed 43 at 10 by the shorter run alone, and at 12 by the longer."""
    breaking(monkeypatch, {0: 6, 1: 9})
    expected = run_offline(settings(LONG, "unbroken"))
    shorter = run_offline(settings(SHORT))
    assert [found["step"] for found in shorter.content["diverged"]] == [6, 10]
    extended = run_offline(settings(LONG, extend=True))
    assert [found["step"] for found in expected.content["diverged"]] == [6, 12]
    assert extended.content["diverged"] == expected.content["diverged"]
    assert_same_bits(states_of(extended, LONG), states_of(expected, LONG))
    assert_same_rows(extended, expected)


def test_a_run_of_other_settings_is_not_extended(settings, tmp_path):
    run_offline(settings(SHORT, eval_episodes=0))
    before = contents(tmp_path)
    with pytest.raises(UserError, match="no run with fewer updates or other seeds and otherwise these"):
        run_offline(settings(LONG, eval_episodes=0, extend=True, batch_size=9))
    assert contents(tmp_path) == before


def test_more_seeds_are_those_of_the_larger_run(settings):
    """Seeds 42 and 43 are there, 42 to 45 are asked for: 44 and 45 are trained, stopped, and go on."""
    there = run_offline(settings(SHORT))
    before = contents(there.path)
    four = settings(SHORT, num_seeds=4, extend=True)
    with stopped_at("update 6: score") as stop:
        begun = run_offline(four, stop)
    assert begun.content["status"] == "interrupted"
    added = run_offline(four)
    assert added.path == begun.path
    assert contents(there.path) == before
    larger = run_offline(dataclasses.replace(four, save_dir=str(there.path.parents[3] / "a"), extend=False))
    ours, theirs = states_of(added, SHORT), states_of(larger, SHORT)
    assert sorted(ours) == ["seed44", "seed45"]
    assert_same_bits(ours, {name: theirs[name] for name in ours})
    assert untimed(larger.path / "evaluations.csv")[3:5] == untimed(added.path / "evaluations.csv")[1:3]
    with pytest.raises(UserError, match="runs with these settings have these seeds"):
        run_offline(four)
    with pytest.raises(UserError, match="seeds 39, 40, 41, 46 are missing"):
        run_offline(settings(SHORT, seed=39, num_seeds=8, extend=True))


def test_an_evaluation_before_the_first_update_changes_no_other_row(settings):
    usual, started = run_offline(settings(SHORT)), run_offline(settings(SHORT, eval_at_start=True))
    assert started.path != usual.path
    header, *rows = untimed(started.path / "evaluations.csv")
    assert [row.split(",")[:2] for row in rows[:2]] == [["0", "42"], ["0", "43"]]
    assert [header, *rows[2:]] == untimed(usual.path / "evaluations.csv")
    assert_same_rows(started, usual, "metrics.csv")
    assert_same_bits(states_of(started, SHORT), states_of(usual, SHORT))
