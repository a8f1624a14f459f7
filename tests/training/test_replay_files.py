"""A buffer saved by and by comes back bit for bit, whatever killed the run, or a line says why not."""

import concurrent.futures
import dataclasses
import errno
import functools
import itertools
import os
import pathlib
import random
import re
import tempfile

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_runs import assert_same_bits

from xql_jax.data import replay
from xql_jax.errors import UserError
from xql_jax.training import replay_files
from xql_jax.training.manifests import Damaged
from xql_jax.training.replay_files import ReplayFiles, Saves, rows_since
from xql_jax.types import Batch

O, A = 3, 2
KEPT = 3
insert = jax.jit(replay.insert)


@pytest.fixture(autouse=True)
def _fetches_of_four_rows(monkeypatch):
    monkeypatch.setattr(replay_files, "ROWS_PER_FETCH", 4)


def noise(seed, count):
    """Transitions of any 32 bits: NaNs with payloads, infinities, subnormals and -0.0 among them."""
    generator = np.random.default_rng(seed)
    shapes = Batch((count, O), (count, A), (count,), (count,), (count, O))
    return Batch(*(generator.integers(2**32, size=s, dtype=np.uint32).view(np.float32) for s in shapes))


class Run:
    """A buffer and its files, as a loop uses them; `checkpoints` are the buffers it could go back to."""

    def __init__(self, folder, capacity):
        self.files, self.capacity = ReplayFiles(folder), capacity
        self.buffer = replay.empty(capacity, O, A)
        self.checkpoints = {0: self.buffer}
        self.seed = self.saved = 0

    @property
    def inserted(self):
        return int(self.buffer.inserted)

    def insert(self, count):
        self.seed += 1  # after a restore, other transitions than before
        self.buffer = insert(self.buffer, noise(self.seed, count))

    def append(self):
        self.files.append(self.inserted, rows_since(self.buffer, self.saved))

    def save(self):
        self.append()
        self.checkpoints[self.inserted] = self.buffer
        self.saved = self.inserted
        self.checkpoints = {k: self.checkpoints[k] for k in sorted(self.checkpoints)[-KEPT:]}
        self.files.prune(min(self.checkpoints), self.capacity)

    def restore(self, age=0):
        """Goes on from the last checkpoint, or from an older one as if those after it were damaged."""
        self.saved = sorted(self.checkpoints)[max(0, len(self.checkpoints) - 1 - age)]
        self.checkpoints = {k: buffer for k, buffer in self.checkpoints.items() if k <= self.saved}
        self.buffer = self.files.load(self.saved, jax.eval_shape(lambda: replay.empty(self.capacity, O, A)))

    def check(self):
        for inserted, buffer in self.checkpoints.items():
            assert_same_bits(self.files.load(inserted, buffer), buffer)


@pytest.fixture
def run(tmp_path):
    """A buffer of capacity 8: files of transitions 0 to 4, 5 to 7, 8 to 12, and checkpoints after each."""
    run = Run(tmp_path / "replay", 8)
    for count in (5, 3, 5):
        run.insert(count)
        run.save()
    return run


def names(run):
    return sorted(path.name[:21] for path in run.files.folder.iterdir())


OPERATIONS = st.one_of(
    st.tuples(st.just("insert"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["save", "save", "append", "restore"]), st.integers(0, KEPT)),
)


@pytest.mark.slow
@given(st.sampled_from([4, 7]), st.lists(OPERATIONS, min_size=5, max_size=30))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_checkpoint_comes_back_bit_for_bit(capacity, operations):
    """Whatever was inserted, saved, saved in part (killed before the checkpoint) and gone back to before."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(pathlib.Path(folder) / "replay", capacity)
        for operation, number in operations:
            if operation == "insert":
                run.insert(number)
            elif operation == "save":
                run.save()
            elif operation == "append":
                run.append()
                run.restore()
            else:
                run.restore(number)
            run.check()


@pytest.mark.slow
def test_a_kill_at_every_point(tmp_path, monkeypatch):
    """Before any call that changes the disk: the checkpoints that were there are whole, and it goes on."""
    calls = {"left": -1}

    def mortal(module, name):
        function = getattr(module, name)

        def call(*arguments, **options):
            calls["left"] -= 1
            if calls["left"] == -1:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, call)

    for module, name in ((os, "fsync"), (os, "replace"), (pathlib.Path, "unlink"), (pathlib.Path, "mkdir")):
        mortal(module, name)
    for moment in itertools.count():
        run = Run(tmp_path / str(moment), 8)
        calls["left"] = moment
        died = False
        for count in (5, 3, 5, 0, 8, 2, 4):
            run.insert(count)
            try:
                run.save()
            except KeyboardInterrupt:
                died = True
                run.check()
                run.restore()
                run.insert(1)
                run.save()
            run.check()
        assert not list(run.files.folder.glob("*.tmp"))
        if not died:
            break
    assert moment > 25


def test_no_more_is_kept_than_three_checkpoints_need(run):
    """After 13, all there is: the oldest is after 5; in the end it is after 31, and needs 23 and later."""
    assert names(run) == ["0000000000-0000000005", "0000000005-0000000008", "0000000008-0000000013"]
    for _ in range(20):
        run.insert(1)
        run.save()
    assert sorted(run.checkpoints) == [31, 32, 33]
    assert names(run) == [f"{k:010d}-{k + 1:010d}" for k in range(23, 33)]
    run.check()


@pytest.mark.parametrize(
    ("kept", "needed"),
    [
        (1, [5, 8, 13, 20]),  # the one before is removed only after the new one is written
        (3, [0, 0, 5, 8]),
        (0, [0, 0, 0, 0]),  # all are kept
    ],
)
def test_the_oldest_checkpoint_that_is_still_needed(kept, needed):
    saves = Saves(kept, 5)
    assert saves.last == 5
    assert [saves.add(step) for step in (8, 13, 20, 21)] == needed
    assert saves.last == 21


def test_more_new_transitions_than_there_is_room_for(run):
    """Those overwritten between two checkpoints were never written; older checkpoints keep theirs."""
    for count in (8, 8, 5):
        run.insert(count)
    run.save()
    assert names(run)[-1] == "0000000026-0000000034"
    run.check()
    assert sorted(run.checkpoints) == [8, 13, 34]


def test_nothing_new(run):
    before = names(run)
    run.files.append(13, rows_since(run.buffer, 13))
    assert names(run) == before
    assert_same_bits(run.files.load(0, run.buffer), replay.empty(8, O, A))
    assert ReplayFiles(run.files.folder / "nowhere").load(0, run.buffer).capacity == 8


def test_another_past_is_forgotten(run):
    """Appending after transition 8 removes what was once met after it, and what a kill left."""
    (run.files.folder / "x.npz.tmp").write_bytes(b"half")
    run.restore(age=1)
    run.insert(2)
    run.save()
    assert names(run) == ["0000000000-0000000005", "0000000005-0000000008", "0000000008-0000000010"]
    run.check()


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


@pytest.mark.parametrize("first", range(14))
def test_rows_since(run, first):
    """The last 8 of all 13 are there; they are fetched four at a time, also around the end of the ring."""
    everything = [noise(1, 5), noise(2, 3), noise(3, 5)]
    expected = jax.tree.map(lambda *fields: np.concatenate(fields)[max(first, 5) :], *everything)
    assert_same_bits(rows_since(run.buffer, first), expected)


@pytest.mark.parametrize("first", [-1, 14])
def test_rows_that_were_never_inserted(run, first):
    with pytest.raises(
        ValueError, match=f"first must be between 0 and the 13 transitions inserted, not {first}"
    ):
        rows_since(run.buffer, first)


def test_one_program_fetches_any_number_of_rows(run):
    rows_since(run.buffer, 0)
    known = replay_files._part._cache_size()
    for first in range(14):
        rows_since(run.buffer, first)
    assert replay_files._part._cache_size() == known


def test_writing_while_the_buffer_goes_on(tmp_path):
    """What was fetched is a copy: a thread writes it while the ring's memory is donated and overwritten."""
    overwrite = jax.jit(replay.insert, donate_argnums=0)
    buffer = overwrite(replay.empty(64, O, A), noise(0, 64))
    expected = jax.tree.map(np.array, buffer)
    rows, files = rows_since(buffer, 0), ReplayFiles(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        write = thread.submit(files.append, 64, rows)
        for seed in range(20):
            buffer = overwrite(buffer, noise(seed, 64))
        write.result()
    assert_same_bits(files.load(64, buffer), expected)


def test_what_was_loaded_is_written_in_place(run):
    """From the first insertion on: what came from NumPy, too, lies in memory that may be donated."""
    buffer = run.files.load(13, run.buffer)
    overwrite = jax.jit(replay.insert, donate_argnums=0)
    places = [field.unsafe_buffer_pointer() for field in buffer.data]
    for seed in range(20):
        buffer = overwrite(buffer, noise(seed, 3))
        assert [field.unsafe_buffer_pointer() for field in buffer.data] == places
