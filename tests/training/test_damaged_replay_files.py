"""A replay buffer's files that are damaged, missing, others' or out of reach: a line says what to do."""

import dataclasses
import errno
import functools
import os
import random
import re

import jax
import numpy as np
import pytest
from replay_runs import A, O, names, noise, three_checkpoints
from training_runs import assert_same_bits

from xql_jax.data import replay
from xql_jax.errors import UserError
from xql_jax.training import replay_files
from xql_jax.training.manifests import Damaged
from xql_jax.training.replay_files import ReplayFiles


@pytest.fixture(autouse=True)
def _fetches_of_four_rows(monkeypatch):
    monkeypatch.setattr(replay_files, "ROWS_PER_FETCH", 4)


@pytest.fixture
def run(tmp_path):
    return three_checkpoints(tmp_path / "replay")


def flips(size, generator):
    return sorted({0, 1, size // 2, size - 2, size - 1, *(generator.randrange(size) for _ in range(30))})


def test_one_flipped_bit_anywhere(run):
    """In either of the files that the last checkpoint needs: transitions 5 to 7, and 8 to 12."""
    generator = random.Random(0)
    for path in sorted(run.files.folder.iterdir())[1:]:
        content = path.read_bytes()
        for offset in flips(len(content), generator):
            changed = bytearray(content)
            changed[offset] ^= 1 << generator.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(Damaged) as error:
                run.files.load(13, run.buffer)
            assert str(error.value).startswith(f"{path}: damaged, or another run's or member's (--on_damaged")
        path.write_bytes(content)
    run.check()


@pytest.mark.parametrize("content", [b"", b"PK", slice(0, -1), "another file's"])
def test_files_that_are_others(run, content):
    other, path = sorted(run.files.folder.iterdir())[1:]
    if isinstance(content, slice):
        content = path.read_bytes()[content]
    path.write_bytes(other.read_bytes() if isinstance(content, str) else content)
    with pytest.raises(Damaged, match="damaged, or another run's"):
        run.files.load(13, run.buffer)
    assert_same_bits(
        run.files.load(8, run.buffer), run.checkpoints[8]
    )  # an older checkpoint does not need it


def test_a_file_that_is_missing(run):
    sorted(run.files.folder.iterdir())[1].unlink()
    with pytest.raises(Damaged) as error:
        run.files.load(13, run.buffer)
    assert str(error.value).startswith(f"{run.files.folder}: the file of the transitions up to 8 is missing")
    with pytest.raises(Damaged, match="the file of the transitions up to 10 is missing"):
        run.files.load(10, run.buffer)


@pytest.mark.parametrize("difference", ["run", "member", "pipe"])
def test_files_of_others_and_what_is_no_file(run, difference):
    path = sorted(run.files.folder.iterdir())[-1]
    if difference == "pipe":
        path.unlink()
        os.mkfifo(path)  # to open it would wait for ever
        files = run.files
    else:
        files = dataclasses.replace(run.files, owner=f"another {difference}")
    with pytest.raises(Damaged, match=r"missing|another run's or member's"):
        files.load(13, run.buffer)


def by_number(buffer):
    """A buffer's transitions by the number that each was inserted as."""
    capacity = buffer.capacity
    numbers = range(max(0, int(buffer.inserted) - capacity), int(buffer.inserted))
    return {
        number: [field[number % capacity].tobytes() for field in map(np.asarray, buffer.data)]
        for number in numbers
    }


@pytest.mark.parametrize("damage", ["flipped", "missing", "all"])
def test_what_is_whole_goes_on_without_what_is_damaged(run, caplog, damage):
    """Capacity 8, 13 inserted: transitions 5 to 7 of one file, 8 to 12 of another."""
    files = dataclasses.replace(run.files, drops_damaged=True)
    assert_same_bits(files.load(13, run.buffer), run.buffer)
    assert caplog.messages == []
    middle, last = sorted(run.files.folder.iterdir())[1:]
    for path in (middle, last) if damage == "all" else (middle,):
        path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:-1])
    before = names(run)
    if damage == "all":
        with pytest.raises(Damaged, match="no file of the buffer is undamaged"):
            files.load(13, run.buffer)
        assert names(run) == before
        return
    found, expected = by_number(files.load(13, run.buffer)), by_number(run.buffer)
    assert all(found[number] == expected[number] for number in range(8, 13))
    whole = [expected[number] for number in range(8, 13)]
    assert all(found[number] in whole for number in range(5, 8))
    (line,) = caplog.messages
    assert "3 of 8 transitions are lost" in line
    assert "copies of others replace them" in line
    assert by_number(run.files.load(13, run.buffer)) == found  # it was mended: from now on it is whole
    assert (damage == "flipped") == (run.files.folder / f"damaged-{middle.name}").exists()
    run.buffer, run.saved = files.load(13, run.buffer), 13
    run.insert(2)
    run.append()
    assert_same_bits(run.files.load(15, run.buffer), run.buffer)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_a_refusal_to_read_is_no_damage(run, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    for module, name in ((os, "listdir"), (replay_files, "read_file")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, refuse)
            with pytest.raises(UserError, match=f"cannot read .*: {os.strerror(number)}") as error:
                run.files.load(13, run.buffer)
            assert not isinstance(error.value, Damaged)
    run.check()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_takes_no_more(run, monkeypatch, number, call):
    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    before = names(run)
    run.insert(3)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(UserError) as error:
            run.append()
    line = str(error.value)
    assert line.startswith(f"cannot write {run.files.folder}/0000000013-0000000016-")
    assert re.search(rf": {os.strerror(number)}; .* and go on with --resume$", line)
    assert names(run) == before
    run.check()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "replay").write_text("a file")
    with pytest.raises(UserError, match=r"cannot (read|write) .*replay: "):
        ReplayFiles(tmp_path / "replay").append(1, jax.tree.map(np.asarray, noise(0, 1)))


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ((8, O + 1, A), r"observations is float32\[5, 3\], not float32\[5, 4\]"),
        ((8, O, A + 1), r"actions is float32\[5, 2\], not float32\[5, 3\]"),
    ],
)
def test_another_tasks_shapes(run, shape, line):
    like = jax.eval_shape(functools.partial(replay.empty, *shape))
    with pytest.raises(UserError, match=rf"0000000008-0000000013-.*: written for another task: {line}"):
        run.files.load(13, like)
