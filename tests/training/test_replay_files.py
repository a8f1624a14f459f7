"""A buffer saved by and by comes back bit for bit, whatever killed the run."""

import concurrent.futures
import itertools
import os
import pathlib
import tempfile

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_runs import KEPT, A, O, Run, names, noise, three_checkpoints
from training_runs import assert_same_bits

from xql_jax.data import replay
from xql_jax.training import replay_files
from xql_jax.training.replay_files import ReplayFiles, Saves, rows_since


@pytest.fixture(autouse=True)
def _fetches_of_four_rows(monkeypatch):
    monkeypatch.setattr(replay_files, "ROWS_PER_FETCH", 4)


@pytest.fixture
def run(tmp_path):
    return three_checkpoints(tmp_path / "replay")


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
