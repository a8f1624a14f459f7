"""`--extend`: a shorter run that goes on has the bits and rows of the longer one, or says why it cannot."""

import dataclasses

import pytest
from tiny_runs import (
    SCHEDULE,
    assert_same_bits,
    contents,
    offline_settings,
    stopped_at,
    untimed,
    write_dataset,
)

from xql_jax.configuration import suite_config
from xql_jax.errors import UserError
from xql_jax.runs.load import SavedRun, load_run
from xql_jax.runs.offline import OfflineRun

# 10 is no multiple of either interval: there the shorter run has rows because it ends, the longer has none.
SHORT, LONG = (dataclasses.replace(SCHEDULE, max_steps=steps) for steps in (10, 18))


def run(settings):
    with OfflineRun(settings) as training:
        training.run()
    return training


def settings(folder, save_dir, **changes):
    constant = {"hidden_dims": (8,), "decay_actor_lr": False}
    config = suite_config("bc", suites=("pointmaze",), differences={"bc": constant})
    return offline_settings(folder, config=config, save_dir=str(save_dir), num_seeds=2, **changes)


def test_an_extended_run_is_the_long_one(tmp_path):
    write_dataset(tmp_path / "data.npz")
    expected = run(settings(tmp_path, tmp_path / "unbroken", schedule=LONG))
    shorter = run(settings(tmp_path, tmp_path / "runs", schedule=SHORT))
    before = contents(shorter.folder.path)
    extended = run(settings(tmp_path, tmp_path / "runs", schedule=LONG, extend=True))
    assert contents(shorter.folder.path) == before
    assert extended.folder.path.name == expected.folder.path.name
    saved = [load_run(one.folder.path, 18).states for one in (extended, expected)]
    assert_same_bits(*saved)
    for name in ("metrics", "evaluations"):
        rows = [untimed(getattr(one.folder.files, name)) for one in (extended, expected)]
        assert rows[0] == rows[1]
    # Asked for again it has ended, and without --extend it is there as any other run.
    again = run(settings(tmp_path, tmp_path / "runs", schedule=LONG, extend=True))
    assert again.had_ended
    assert run(settings(tmp_path, tmp_path / "runs", schedule=LONG, resume=True)).had_ended


def test_an_evaluation_of_the_end_that_was_interrupted_is_not_the_longer_runs(tmp_path, monkeypatch):
    write_dataset(tmp_path / "data.npz")
    expected = run(settings(tmp_path, tmp_path / "unbroken", schedule=LONG))
    run(settings(tmp_path, tmp_path / "runs", schedule=SHORT))
    read = SavedRun.progress.fget
    monkeypatch.setattr(
        SavedRun, "progress", property(lambda one: dataclasses.replace(read(one), evaluation_due=True))
    )
    extended = run(settings(tmp_path, tmp_path / "runs", schedule=LONG, extend=True))
    rows = [untimed(one.folder.files.evaluations) for one in (extended, expected)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "falls to 0 at update 10"),
        ({"batch_size": 9}, "no run with fewer updates or other seeds and otherwise these settings"),
        ({"num_seeds": 3}, "no run with fewer updates or other seeds and otherwise these settings"),
    ],
)
def test_why_not(tmp_path, changes, message):
    write_dataset(tmp_path / "data.npz")
    shorter = run(offline_settings(tmp_path, schedule=SHORT, eval_episodes=0))
    before = contents(tmp_path)
    with pytest.raises(UserError, match=message):
        run(offline_settings(tmp_path, schedule=LONG, eval_episodes=0, extend=True, **changes))
    assert contents(tmp_path) == before
    assert shorter.folder.path.is_dir()


def test_more_seeds_are_those_of_the_larger_run(tmp_path, caplog):
    """Seeds 42 and 43 are there, 42 to 45 are asked for: 44 and 45 are trained, to the same bits."""
    caplog.set_level("INFO")
    write_dataset(tmp_path / "data.npz")
    there = run(settings(tmp_path, tmp_path / "runs", schedule=SHORT))
    before = contents(there.folder.path)
    four = dataclasses.replace(
        settings(tmp_path, tmp_path / "runs", schedule=SHORT, extend=True), num_seeds=4
    )
    added = run(four)
    assert contents(there.folder.path) == before
    assert added.folder.path.name.startswith("seeds44-45_")
    assert [member.seed for member in added.members] == [44, 45]
    assert f"extending {there.folder.path} by seeds 44, 45, in a run of their own" in caplog.text
    larger = run(dataclasses.replace(four, save_dir=str(tmp_path / "larger"), extend=False))
    ours, theirs = (load_run(one.folder.path, 10).states for one in (added, larger))
    assert sorted(ours) == ["seed44", "seed45"]
    assert_same_bits(ours, {name: theirs[name] for name in ours})
    assert untimed(larger.folder.files.evaluations)[3:5] == untimed(added.folder.files.evaluations)[1:3]
    with pytest.raises(UserError, match="seeds 42 to 45 already have runs with these settings"):
        run(four)


def test_more_seeds_that_were_stopped_go_on_by_the_same_command(tmp_path, caplog):
    caplog.set_level("INFO")
    write_dataset(tmp_path / "data.npz")
    there = run(settings(tmp_path, tmp_path / "runs", schedule=LONG))
    four = dataclasses.replace(settings(tmp_path, tmp_path / "runs", schedule=LONG, extend=True), num_seeds=4)
    with OfflineRun(four) as stopped, stopped_at(stopped, "update 6: score"):
        assert stopped.run()["status"] == "interrupted"
    ended = run(four)
    assert ended.folder.path == stopped.folder.path
    assert f"going on with {stopped.folder.path}, which has not ended" in caplog.text
    whole = run(dataclasses.replace(four, save_dir=str(tmp_path / "whole"), extend=False))
    ours, theirs = (load_run(one.folder.path, 18).states for one in (ended, whole))
    assert_same_bits(ours, {name: theirs[name] for name in ours})
    assert there.folder.path.is_dir()
    with pytest.raises(UserError, match="seeds 42 to 45 already have runs with these settings"):
        run(four)


def test_seeds_that_are_missing_in_the_midst_are_not_one_run(tmp_path):
    write_dataset(tmp_path / "data.npz")
    run(dataclasses.replace(settings(tmp_path, tmp_path / "runs", schedule=SHORT), seed=44, num_seeds=1))
    asked = dataclasses.replace(
        settings(tmp_path, tmp_path / "runs", schedule=SHORT, extend=True), num_seeds=5
    )
    with pytest.raises(UserError, match="seeds 42, 43, 45, 46 are missing"):
        run(asked)


def test_an_evaluation_before_the_first_update_changes_no_other_row(tmp_path):
    write_dataset(tmp_path / "data.npz")
    usual = run(settings(tmp_path, tmp_path / "runs", schedule=SHORT))
    early = dataclasses.replace(SHORT, eval_at_start=True)
    started = run(settings(tmp_path, tmp_path / "runs", schedule=early))
    assert started.folder.path != usual.folder.path
    header, *rows = untimed(started.folder.files.evaluations)
    assert [row.split(",")[:2] for row in rows[:2]] == [["0", "42"], ["0", "43"]]
    assert [header, *rows[2:]] == untimed(usual.folder.files.evaluations)
    assert untimed(started.folder.files.metrics) == untimed(usual.folder.files.metrics)
    assert_same_bits(*(load_run(one.folder.path, 10).states for one in (started, usual)))
