"""A buffer that is saved incrementally comes back bit for bit, whatever killed the run."""

import pathlib
import tempfile

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from training_runs import assert_same_bits

from xql_jax.data import replay
from xql_jax.errors import Damaged
from xql_jax.training.replay_files import ReplayFiles, rows_since
from xql_jax.types import Batch

O, A = 3, 2
KEPT = 3
insert = jax.jit(replay.insert)


def noise(seed, count):
    """Transitions of any 32 bits: NaNs with payloads, infinities, subnormals and -0.0 among them."""
    generator = np.random.default_rng(seed)
    shapes = Batch((count, O), (count, A), (count,), (count,), (count, O))
    return Batch(*(generator.integers(2**32, size=s, dtype=np.uint32).view(np.float32) for s in shapes))


def shapes(capacity):
    return jax.eval_shape(lambda: replay.empty(capacity, O, A))


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
        stacked = jax.tree.map(lambda leaf: jax.numpy.stack([jax.numpy.zeros_like(leaf), leaf]), self.buffer)
        self.files.append(self.inserted, rows_since(stacked, self.saved, 1))  # of the second of two members

    def save(self):
        self.append()
        self.checkpoints[self.inserted] = self.buffer
        self.saved = self.inserted
        self.checkpoints = {k: self.checkpoints[k] for k in sorted(self.checkpoints)[-KEPT:]}
        self.files.prune(min(self.checkpoints) - self.capacity)

    def restore(self, age=0):
        """Goes on from the last checkpoint, or from an older one as if those after it were damaged."""
        self.saved = sorted(self.checkpoints)[max(0, len(self.checkpoints) - 1 - age)]
        self.checkpoints = {k: buffer for k, buffer in self.checkpoints.items() if k <= self.saved}
        buffer = self.files.load(self.saved, shapes(self.capacity))
        self.buffer = jax.tree.map(jax.numpy.array, buffer)

    def check(self):
        for inserted, buffer in self.checkpoints.items():
            assert_same_bits(self.files.load(inserted, shapes(self.capacity)), buffer)


@pytest.fixture
def run(tmp_path):
    """A buffer of capacity 8: files of transitions 0 to 4, 5 to 7, 8 to 12, and checkpoints after each."""
    run = Run(tmp_path / "replay", 8)
    for count in (5, 3, 5):
        run.insert(count)
        run.save()
    return run


OPERATIONS = st.one_of(
    st.tuples(st.just("insert"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["save", "save", "append", "restore"]), st.integers(0, KEPT)),
)


@given(st.sampled_from([4, 7]), st.lists(OPERATIONS, min_size=5, max_size=30))
@settings(max_examples=12)
@example(4, 9 * [("insert", 1), ("save", 0)] + 4 * [("restore", 1), ("insert", 1), ("save", 0)])
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
        stops = [int(path.name.split("-")[1]) for path in run.files.folder.glob("*.npz")]
        assert all(stop > min(run.checkpoints) - capacity for stop in stops)  # what none needs is gone


@pytest.mark.parametrize("content", [None, lambda old: old[:-9] + b"x" + old[-8:], lambda old: old[:-5]])
def test_a_damaged_file_is_an_error_of_the_checkpoints_that_need_it(run, content):
    (path,) = run.files.folder.glob("0000000005-*")
    if content:
        path.write_bytes(content(path.read_bytes()))
    else:
        path.unlink()
    assert_same_bits(run.files.load(5, shapes(8)), run.checkpoints[5])
    for inserted in (8, 13):
        with pytest.raises(Damaged):
            run.files.load(inserted, shapes(8))


def test_files_of_another_run_or_member_are_refused(run):
    for files in (ReplayFiles(run.files.folder, "other"), ReplayFiles(run.files.folder.parent).of("replay")):
        with pytest.raises(Damaged, match="damaged, or another run's or member's"):
            files.load(13, shapes(8))


def test_files_of_other_programs_are_no_transitions(run):
    """Copies that sync tools make, and what macOS puts beside files on network volumes."""
    [last] = run.files.folder.glob("0000000008-*")
    others = [f"{last.stem} (1).npz", f"._{last.name}", "a-b-c.npz", "1-2-3-4.npz", "5-13-0g.npz"]
    for name in others:
        (last.parent / name).write_bytes(b"x")
    assert_same_bits(run.files.load(13, shapes(8)), run.checkpoints[13])
    run.insert(3)
    run.save()
    run.check()
    assert {*others} <= {path.name for path in last.parent.iterdir()}
