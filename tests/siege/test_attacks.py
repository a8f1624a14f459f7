"""Attacks on a run's folder that were once fatal, or worse, silent: what is done, and what is said."""

import dataclasses
import os
import shutil

import pytest
from judge import checkpoints_of, judge, numbers
from siege_runs import KINDS, STOPS, make_stages, stop_at

from xql_jax.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    return make_stages(KINDS["offline"], tmp_path_factory.mktemp("offline"))


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    return make_stages(KINDS["online"], tmp_path_factory.mktemp("online"))


@pytest.fixture
def besieged(offline, tmp_path):
    """A run that stands at the last of `STOPS`, whose folder may be changed."""
    return copied(offline, -1, tmp_path / "siege")


def copied(stages, index, folder):
    stage = stages.stages[index]
    run = folder / stage.run.relative_to(stage.save_dir)
    shutil.copytree(stage.run, run)
    return dataclasses.replace(stage, save_dir=folder, run=run)


def resumed(stages, stage, **changes):
    """The verdict, with the unbroken run's numbers in mind."""

    def work():
        with stages.kind.run(stage.settings(resume=True, **changes)) as run:
            run.run()

    return judge(stage.run, work, lambda: numbers(stage.run), stage.may_become)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_checkpoints_that_are_gone(offline, besieged, caplog):
    """The run begins anew and makes the same rows; those that it had are kept."""
    rows = (besieged.run / "metrics.csv").read_bytes()
    shutil.rmtree(besieged.run / "checkpoints")
    assert resumed(offline, besieged).kind == "same numbers"
    assert (besieged.run / "earlier-metrics.csv").read_bytes() == rows
    assert any("the run begins anew; it is now earlier-metrics.csv" in line for line in caplog.messages)


def test_a_file_where_checkpoints_were(offline, besieged):
    shutil.rmtree(besieged.run / "checkpoints")
    (besieged.run / "checkpoints").touch()
    verdict = resumed(offline, besieged)
    assert (verdict.kind, "checkpoints: Not a directory" in verdict.words) == ("one line", True)


CELLS = {
    "a flipped bit in the header": ("metrics.csv", "step", "stap"),
    "a blank score": ("evaluations.csv", "\n4,42,", "\n4,,"),
    "a seed of 42.5": ("evaluations.csv", "\n4,42,", "\n4,42.5,"),
    "a column added": ("evaluations.csv", "step,seed,", "step,seed,seed,"),
    "a digit changed": ("evaluations.csv", "\n4,42,0,-1", "\n4,42,0,-9"),
}


@pytest.mark.parametrize("name", CELLS)
def test_rows_that_are_damaged(offline, besieged, caplog, name):
    file, old, new = CELLS[name]
    edit(besieged.run / file, old, new)
    damaged = (besieged.run / file).read_bytes()
    assert resumed(offline, besieged).kind == "same numbers"
    assert (besieged.run / f"damaged-{file}").read_bytes() == damaged
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.endswith(f"{file}: not as the run wrote it; the file as it was is damaged-{file}")


@pytest.mark.parametrize("whose", ["another run's", "another step's"])
def test_a_checkpoint_that_is_not_this_ones(offline, besieged, caplog, whose):
    last = checkpoints_of(besieged.run)[-1]
    source = checkpoints_of(offline.others[-1].run)[-1] if whose == "another run's" else last
    shutil.copytree(source, besieged.run / "checkpoints" / "10")
    assert resumed(offline, besieged).kind == "same numbers"
    assert (besieged.run / "checkpoints" / "damaged-10").is_dir()
    words = "it is of another run" if whose == "another run's" else f"it is of step {last.name}"
    assert any(words in line and f"goes on from {last.name}" in line for line in caplog.messages)


@pytest.mark.parametrize("damage", ["missing", "truncated", "a row short"])
def test_evaluations_of_a_run_that_has_ended(offline, tmp_path, caplog, damage):
    ended = copied(offline, 0, tmp_path / "siege")
    path = ended.run / "evaluations.csv"
    lines = path.read_text().splitlines(keepends=True)
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(lines[0][:9] if damage == "truncated" else "".join(lines[:-1]))
    assert resumed(offline, ended).kind == "same numbers"
    assert any(
        "the run has ended, and evaluations.csv is not as it was written" in line for line in caplog.messages
    )


def test_evaluations_that_are_cut_during_the_run(offline, besieged, caplog):
    with offline.kind.run(besieged.settings(resume=True)) as run:
        stop_at(run, 10, lambda: os.truncate(besieged.run / "evaluations.csv", 9), stops=False)
        summary = run.run()
    assert numbers(besieged.run) in besieged.may_become
    assert summary["results"][0]["last_step"] == 12
    assert any("changed by somebody else during the run" in line for line in caplog.messages)


def test_a_folder_that_is_moved_during_the_run(offline, besieged, tmp_path):
    moved = tmp_path / "moved"

    def move():
        if not moved.exists():
            besieged.run.rename(moved)

    with offline.kind.run(besieged.settings(resume=True)) as run:
        stop_at(run, 10, move, stops=False)
        with pytest.raises(UserError, match=r"cannot write .*: No such file or directory"):
            run.run()
    assert not besieged.run.exists()
    moved.rename(besieged.run)
    assert resumed(offline, besieged).kind == "same numbers"


def test_a_part_of_the_buffer_that_all_checkpoints_share(online, tmp_path, caplog):
    stage = copied(online, -1, tmp_path / "siege")
    for folder in (stage.run / "replay").iterdir():
        path = sorted(folder.iterdir())[0]
        path.write_bytes(path.read_bytes()[:-1])
    verdict = resumed(online, stage)
    assert verdict.kind == "one line"
    assert "--on_damaged_replay=drop" in verdict.words
    with online.kind.run(stage.settings(resume=True, on_damaged_replay="drop")) as run:
        summary = run.run()
    assert (summary["status"], summary["step"]) == ("finished", 12)
    lost = [line for line in caplog.messages if "transitions are lost" in line]
    assert len(lost) == 2  # one a member
    assert all("2 of 8 transitions" in line for line in lost), (STOPS, lost)


@pytest.mark.parametrize("name", ["metrics.csv", "config.json", "summary.json", "preprocessing.json"])
def test_a_pipe_in_place_of_a_file(offline, besieged, name):
    (besieged.run / name).unlink()
    os.mkfifo(besieged.run / name)
    assert resumed(offline, besieged).kind in ("same numbers", "one line")


def test_links_that_somebody_left(offline, besieged, tmp_path):
    """Where the run writes, or locks: what they lead to is not touched."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"somebody's")
    for name in ("metrics.csv.tmp", "config.json.tmp", "summary.json.tmp", "checkpoints/10.tmp"):
        (besieged.run / name).symlink_to(victim)
    assert resumed(offline, besieged).kind == "same numbers"
    (besieged.run / ".lock").unlink()
    (besieged.run / ".lock").symlink_to(victim)
    (besieged.run / "summary.json").unlink()
    assert resumed(offline, besieged).kind == "one line"
    assert victim.read_bytes() == b"somebody's"
