"""Checkpoints that something happened to: bits come back or nothing does, whatever byte changed."""

import errno
import functools
import json
import os
import random
import shutil

import jax
import numpy as np
import pytest
from checkpoint_files import LIKE, PROGRESS, files, make_states, number, resume_last_good, save
from training_runs import assert_same_bits

from xql_jax.errors import UserError
from xql_jax.files import digest, read_file
from xql_jax.training import manifests
from xql_jax.training.checkpoints import Checkpoints, Progress
from xql_jax.training.manifests import Damaged, DamagedCheckpoint, UnfitCheckpoint


def flips(path, generator):
    """Some offsets of a file, its first and last bytes among them, each with a bit to flip."""
    size = path.stat().st_size
    offsets = {0, 1, size // 2, size - 2, size - 1, *generator.sample(range(size), min(size, 4))}
    return [(offset, 1 << generator.randrange(8)) for offset in sorted(offsets & set(range(size)))]


def test_one_flipped_bit_anywhere(tmp_path):
    """The bits as they were or an older checkpoint's or a line: never other numbers, never a traceback."""
    states = make_states()
    older = jax.tree.map(lambda leaf: leaf + 1, states)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(older, Progress(step=3))
    checkpoints.save(states, PROGRESS)
    checkpoints.wait()
    generator, outcomes = random.Random(0), {}
    for path in files(tmp_path / "7"):
        content = path.read_bytes()
        for offset, bit in flips(path, generator):
            changed = bytearray(content)
            changed[offset] ^= bit
            path.write_bytes(changed)
            where = f"{path.relative_to(tmp_path / '7')}[{offset}]"
            try:
                restored, progress = checkpoints.restore(states)
                assert_same_bits(restored, states)
                assert progress == PROGRESS
                outcomes[where] = "same"
            except UnfitCheckpoint as error:
                outcomes[where] = str(error)
        folder, name, *_ = *path.relative_to(tmp_path / "7").parts, None
        if folder == "members":  # one that is damaged now, and alone
            (other,) = states.keys() - {name}
            assert_same_bits(checkpoints.restore({other: states[other]})[0], states[other])
            with pytest.raises(DamagedCheckpoint):
                checkpoints.restore({name: states[name]})
        path.write_bytes(content)
    assert len(outcomes) > 60
    told = [outcome for outcome in outcomes.values() if outcome != "same"]
    assert all(line.startswith(f"checkpoint {tmp_path / '7'}: damaged: ") for line in told)
    assert not any("\n" in line for line in told)
    # White space, or the likes, in the JSON of the digests themselves may change; nothing else.
    assert all("checkpoint.json" in where for where, outcome in outcomes.items() if outcome == "same")
    assert_same_bits(checkpoints.restore(states)[0], states)
    checkpoints.close()


def flip(path, offset=-1):
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(content)


def largest(folder):
    return max(files(folder / "members"), key=lambda path: path.stat().st_size)


def write_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGES = {
    "a flipped bit": lambda folder: flip(largest(folder)),
    "a truncated file": lambda folder: largest(folder).write_bytes(largest(folder).read_bytes()[:-3]),
    "an empty file": lambda folder: largest(folder).write_bytes(b""),
    "a missing file": lambda folder: largest(folder).unlink(),
    "no arrays": lambda folder: shutil.rmtree(folder / "members"),
    "nothing": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    "no digests": lambda folder: (folder / "checkpoint.json").unlink(),
    "half of the JSON": lambda folder: (folder / "checkpoint.json").write_text('{"progress": {"step": 5'),
    "other JSON": lambda folder: (folder / "checkpoint.json").write_text("[[1]]"),
    "deep JSON": lambda folder: (folder / "checkpoint.json").write_text("[" * 100_000),
    "no text": lambda folder: (folder / "checkpoint.json").write_bytes(b"\xff\xfe\x00"),
    "another step": lambda folder: write_json(folder / "checkpoint.json", progress={"step": 6}),
    "a file instead": lambda folder: (shutil.rmtree(folder), folder.touch()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path, caplog, damage):
    save(tmp_path, 4, 5, 6)
    DAMAGES[damage](tmp_path / "5")
    DAMAGES[damage](tmp_path / "6")
    damaged = {path: path.read_bytes() for path in files(tmp_path)}
    checkpoints = Checkpoints(tmp_path)
    for step in (None, 5, 6):
        with pytest.raises(DamagedCheckpoint):
            checkpoints.restore(LIKE, step)
    assert {path: path.read_bytes() for path in files(tmp_path)} == damaged  # reading renames nothing
    states, progress = resume_last_good(checkpoints, LIKE)
    assert (states, progress) == (number(4), Progress(step=4))
    assert [(record.levelname, record.getMessage().split(": ")[0]) for record in caplog.records] == [
        ("WARNING", f"checkpoint {tmp_path / str(step)}") for step in (6, 5)
    ]
    assert all(line.endswith("the run goes on from 4") for line in caplog.messages)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "damaged-5", "damaged-6"]
    save(tmp_path, 5, 6)
    assert checkpoints.steps == [4, 5, 6]
    DAMAGES[damage](tmp_path / "6")
    assert resume_last_good(checkpoints, LIKE)[1].step == 5  # also where there is a damaged-6 already
    checkpoints.close()


def test_what_lies_elsewhere_and_is_damaged_counts_as_the_checkpoints(tmp_path, caplog):
    save(tmp_path, 4, 5, 6)
    checkpoints, tried = Checkpoints(tmp_path), []

    def resume(states, progress):
        tried.append((progress.step, float(states["seed0"]["x"])))
        if progress.step > 4:
            raise Damaged(f"buffer of {progress.step}: missing")

    assert checkpoints.resume_last_good(LIKE, resume) == Progress(step=4)
    assert tried == [(6, 6.0), (5, 5.0), (4, 4.0)]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            f"buffer of {step}: missing; the checkpoint is now damaged-{step}, the run goes on from 4",
        )
        for step in (6, 5)
    ]
    assert checkpoints.steps == [4]
    save(tmp_path, 5)

    def never(states, progress):
        raise Damaged("buffer: missing")

    with pytest.raises(UserError, match=r"^buffer: missing, nor can the 1 before it, so .*--save_dir"):
        checkpoints.resume_last_good(LIKE, never)
    assert checkpoints.steps == [4, 5]
    checkpoints.close()


@pytest.mark.parametrize(("kept", "goes_on"), [(2, False), (3, True)])
def test_damage_elsewhere_does_not_cost_all_that_came_after_a_spared_one(tmp_path, kept, goes_on):
    """One file of the replay buffer, say, which all checkpoints need but that of the hand-over."""
    save(tmp_path, 4, 5, 6)

    def resume(states, progress):
        if progress.step > 4:
            raise Damaged("buffer: missing")

    with Checkpoints(tmp_path, kept=kept, spared=4) as checkpoints:
        if goes_on:  # it is one of the latest
            assert checkpoints.resume_last_good(LIKE, resume) == Progress(step=4)
        else:
            with pytest.raises(
                UserError, match=r"^buffer: missing, nor can the 1 before it, so .*--save_dir"
            ):
                checkpoints.resume_last_good(LIKE, resume)
            assert checkpoints.steps == [4, 5, 6]


def test_no_good_one_is_an_error_and_all_stay(tmp_path, caplog):
    save(tmp_path, 4, 5)
    for step in ("4", "5"):
        flip(largest(tmp_path / step))
    before = {path: path.read_bytes() for path in files(tmp_path)}
    with pytest.raises(UserError, match="--save_dir") as error:
        resume_last_good(Checkpoints(tmp_path), LIKE)
    assert f"checkpoint {tmp_path / '5'}: damaged: members/seed0/" in str(error.value)
    assert f"delete {tmp_path.parent} " in str(error.value)
    assert caplog.messages == []
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_a_checkpoint_that_does_not_say_of_which_run_it_is_is_told(tmp_path):
    save(tmp_path, 3, 4)
    content = json.loads((tmp_path / "4" / "checkpoint.json").read_text())
    del content["run"], content["digest"]
    (tmp_path / "4" / "checkpoint.json").write_text(json.dumps({**content, "digest": digest(content)}))
    with pytest.raises(UserError, match=r"4: written by a version before 0\.5, .*--save_dir$"):
        resume_last_good(Checkpoints(tmp_path), LIKE)


@pytest.mark.parametrize("kind", ["another run's", "another step's"])
def test_what_is_of_another_run_or_step_is_refused(tmp_path, caplog, kind):
    for run in ("ours", "theirs"):
        with Checkpoints(tmp_path / run, run) as checkpoints:
            for step in (4, 5, 6) if run == "theirs" else (4, 5):
                checkpoints.save(number(step), Progress(step=step))
    ours = tmp_path / "ours"
    shutil.copytree(tmp_path / "theirs" / "6" if kind == "another run's" else ours / "4", ours / "6")
    before = {path: path.read_bytes() for path in files(ours / "6")}
    words = "it is of another run, theirs; this one is ours" if kind == "another run's" else "it is of step 4"
    with Checkpoints(ours, "ours") as checkpoints:
        with pytest.raises(DamagedCheckpoint, match=words):
            checkpoints.restore(LIKE, 6)
        assert resume_last_good(checkpoints, LIKE)[1].step == 5
    (line,) = caplog.messages
    assert words in line
    assert line.endswith("the checkpoint is now damaged-6, the run goes on from 5")
    aside = {
        ours / "6" / path.relative_to(ours / "damaged-6"): path.read_bytes()
        for path in files(ours / "damaged-6")
    }
    assert aside == before
    for step in (4, 5):
        shutil.rmtree(ours / str(step))
    shutil.copytree(tmp_path / "theirs" / "6", ours / "6")
    with Checkpoints(ours, "ours") as checkpoints, pytest.raises(UserError, match=r"another run.*--save_dir"):
        resume_last_good(checkpoints, LIKE)


def test_rows_that_a_checkpoint_holds_are_proved_too(tmp_path, caplog):
    def rows(folder):
        (folder / "logs").mkdir()
        (folder / "logs" / "metrics.csv").write_bytes(b"step,x\n4,1\n")

    with Checkpoints(tmp_path) as checkpoints:
        for step in (4, 5):
            checkpoints.save(number(step), Progress(step=step), rows)
        checkpoints.wait()
        assert checkpoints.logs(5) == {"metrics.csv": b"step,x\n4,1\n"}
        flip(tmp_path / "5" / "logs" / "metrics.csv")
        with pytest.raises(DamagedCheckpoint, match=r"logs/metrics\.csv is not as it was written"):
            checkpoints.logs(5)
        assert resume_last_good(checkpoints, LIKE)[1].step == 4
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("like", "told"),
    [
        ({"x": np.zeros(2, np.float32)}, r"\['x'\] is float32\[\], not float32\[2\]"),
        ({"x": np.zeros((), np.int32)}, r"\['x'\] is float32\[\], not int32\[\]"),
        ({**LIKE["seed0"], "y": np.zeros((), np.float32)}, r"\['y'\] is not there, not float32\[\]"),
        ({}, r"\['x'\] is float32\[\], not wanted"),
    ],
)
def test_other_states_are_told_not_converted(tmp_path, like, told):
    """orbax cuts and fills arrays of other shapes, and converts other types, without a word."""
    like = {"seed0": like}
    save(tmp_path, 4, 5)
    with pytest.raises(UnfitCheckpoint, match=told):
        Checkpoints(tmp_path).restore(like)
    with pytest.raises(UserError, match=r"another version of the program.*--save_dir"):
        resume_last_good(Checkpoints(tmp_path), like)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]


def test_progress_of_another_version_is_told(tmp_path):
    save(tmp_path, 3, 4)
    content = json.loads((tmp_path / "4" / "checkpoint.json").read_text())
    content["progress"]["phase"] = 1
    content.pop("digest")
    (tmp_path / "4" / "checkpoint.json").write_text(json.dumps({**content, "digest": digest(content)}))
    with pytest.raises(UserError, match=r"this version cannot read it.*phase"):
        resume_last_good(Checkpoints(tmp_path), LIKE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_a_checkpoint_that_kept_all_members_in_one_file_is_told(tmp_path):
    """As versions before 0.4 wrote them: `leaves` in the place of `members`, the arrays in states/."""
    save(tmp_path, 3, 4)
    folder = tmp_path / "4"
    (folder / "members").rename(folder / "states")
    content = {"progress": {"step": 4, "diverged": {}}, "leaves": {"['x']": "float32[1]"}, "files": {}}
    (folder / "checkpoint.json").write_text(json.dumps({**content, "digest": digest(content)}))
    checkpoints = Checkpoints(tmp_path)
    told = f"checkpoint {folder}: written by a version before 0.4, which kept all members in one file"
    with pytest.raises(UnfitCheckpoint) as error:
        checkpoints.restore(LIKE)
    assert (str(error.value), type(error.value)) == (told, UnfitCheckpoint)
    with pytest.raises(UserError, match=f"^{told}, so the run cannot go on;.*--save_dir$"):
        resume_last_good(checkpoints, LIKE)
    assert checkpoints.steps == [3, 4]
    checkpoints.close()


def test_other_states_are_not_passed_over_for_older_ones(tmp_path, caplog):
    """They are whole: it is the program that is another."""
    save(tmp_path, 4)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"seed0": {"x": np.zeros(2, np.float32)}}, Progress(step=5))
    checkpoints.save(number(6), Progress(step=6))
    checkpoints.close()
    flip(largest(tmp_path / "6"))
    with pytest.raises(UserError, match=r"/5: written for other states.*--save_dir"):
        resume_last_good(Checkpoints(tmp_path), LIKE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5", "6"]
    assert caplog.messages == []


def is_told(checkpoints, message):
    """By both ways to restore, as one line that is not of an unfit checkpoint; nothing is renamed."""
    for restore in (checkpoints.restore, functools.partial(resume_last_good, checkpoints)):
        with pytest.raises(UserError, match=message) as error:
            restore(LIKE)
        assert type(error.value) is UserError
        assert "damaged" not in str(error.value)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.EACCES])
@pytest.mark.parametrize("file", ["checkpoint.json", "members"])
@pytest.mark.parametrize("when", ["opened", "read"])
def test_what_the_system_refuses_is_no_damage(tmp_path, monkeypatch, caplog, number, file, when):
    save(tmp_path, 4, 5)
    refused = tmp_path / "5" / "checkpoint.json" if file == "checkpoint.json" else largest(tmp_path / "5")

    def read(path):
        if path == refused:  # of a read, the error does not know the file's name
            raise OSError(number, os.strerror(number), *([str(path)] if when == "opened" else []))
        return read_file(path)

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(manifests, "read_file", read)
    is_told(checkpoints, f"^cannot read {refused}: {os.strerror(number)}$")
    monkeypatch.undo()
    assert (checkpoints.steps, caplog.messages) == ([4, 5], [])
    assert resume_last_good(checkpoints, LIKE)[1].step == 5


def test_a_folder_that_cannot_be_read_is_not_one_without_checkpoints(tmp_path, monkeypatch):
    save(tmp_path, 4)

    def listdir(path):
        raise OSError(errno.EACCES, "Permission denied", str(path))

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(os, "listdir", listdir)
    is_told(checkpoints, f"^cannot read {tmp_path}: Permission denied$")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (
            RuntimeError("RESOURCE_EXHAUSTED: out of memory\nwhile allocating"),
            "RuntimeError: RESOURCE_EXHAUSTED",
        ),
        (ValueError("unknown format"), "ValueError: unknown format"),
        (KeyError("item"), "KeyError: 'item'"),
    ],
)
def test_what_orbax_cannot_read_of_a_whole_checkpoint_is_no_damage(tmp_path, monkeypatch, raised, told):
    save(tmp_path, 4, 5)
    checkpoints = Checkpoints(tmp_path)

    def restore(*arguments, **keywords):
        raise raised

    monkeypatch.setattr(checkpoints._orbax, "restore", restore)
    is_told(checkpoints, f"^checkpoint {tmp_path / '5'}: whole, but this version cannot read it: {told}")
    assert checkpoints.steps == [4, 5]


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.EMFILE, "Too many open files"),
        ValueError(f"Failed to open [os_error_code='{errno.EMFILE}']"),  # as tensorstore does
    ],
)
def test_what_the_system_refuses_orbax_is_told_in_its_words(tmp_path, monkeypatch, raised):
    save(tmp_path, 4, 5)
    checkpoints = Checkpoints(tmp_path)

    def restore(*arguments, **keywords):
        raise raised

    monkeypatch.setattr(checkpoints._orbax, "restore", restore)
    is_told(checkpoints, f"^cannot read {tmp_path / '5' / 'members' / 'seed0'}: Too many open files$")
    assert checkpoints.steps == [4, 5]
