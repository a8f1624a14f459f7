"""A replay buffer and its files, as a training loop uses them."""

import jax
import numpy as np
from training_runs import assert_same_bits

from xql_jax.data import replay
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


def names(run):
    return sorted(path.name[:21] for path in run.files.folder.iterdir())


def three_checkpoints(folder):
    """A buffer of capacity 8: files of transitions 0 to 4, 5 to 7, 8 to 12, and checkpoints after each."""
    run = Run(folder, 8)
    for count in (5, 3, 5):
        run.insert(count)
        run.save()
    return run
