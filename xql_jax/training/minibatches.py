"""Where a compiled call finds its minibatches: all of the data on the device, or blocks from the host.

Both draw update t's minibatch from the same key, so that a run learns from the same transitions either way.
`pieces` cuts updates start, ..., stop - 1 of members with keys [M] into calls of the program.
`batch` is within the program: one update's minibatch, from its member's data and its own key.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xql_jax.data.sampling import sample, sample_indices
from xql_jax.data.windows import Trajectories
from xql_jax.types import AnyBatch, Array, Minibatch, PRNGKey, Transitions

BLOCK_BYTES = 32 * 2**20  # a few hundred updates of one member: each transfer is worth its overhead


def update_keys(key: PRNGKey, step: Array) -> tuple[PRNGKey, PRNGKey]:
    """Returns the two keys of a member's update: of its minibatch, and of what the learner itself draws."""
    key_batch, key_update = jax.random.split(jax.random.fold_in(key, step))
    return key_batch, key_update


class Resident:
    """All transitions on every device, once, shared by all members; minibatches are drawn in the program."""

    def __init__(self, data: AnyBatch | Trajectories, mesh: Mesh, batch_size: int):
        self.partition = PartitionSpec()
        self._data = jax.device_put(data, NamedSharding(mesh, self.partition))
        self._batch_size = batch_size

    def pieces(self, keys: PRNGKey, start: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        yield start, stop, self._data

    def batch(self, data: AnyBatch | Trajectories, key: PRNGKey, step: Array) -> Minibatch:
        return sample(data, key, self._batch_size)


class Block(NamedTuple):
    """The minibatches of a few successive updates, of every member [M] or, within the program, of one."""

    first: Any  # i32[M], the first update
    batches: Minibatch  # fields [M, K, B, ...]


class Streamed:
    """Blocks of minibatches from the host, the next one gathered while the device works on one.

    The transitions of a minibatch are drawn as `Resident` draws them, from all of the data and by the same
    keys: nothing is shuffled, blocks are no samples of samples, and the draw has no bias.
    """

    def __init__(self, data: Transitions, mesh: Mesh, batch_size: int, num_members: int):
        self.partition = PartitionSpec(mesh.axis_names[0])
        self._data = data
        self._sharding = NamedSharding(mesh, self.partition)
        self._batch_size = batch_size
        bytes_an_update = (
            num_members * batch_size * sum(field.nbytes for field in data.take(np.zeros(1, int)))
        )
        self._length = int(np.clip(BLOCK_BYTES // bytes_an_update, 1, 512))

    def pieces(self, keys: PRNGKey, start: int, stop: int) -> Iterator[tuple[int, int, Block]]:
        firsts = range(start, max(stop, start + 1), self._length)  # no updates are a call too
        pieces = [(first, min(first + self._length, stop)) for first in firsts]
        indices = self._indices(keys, start)
        for number, (first, after) in enumerate(pieces):
            block = self._block(np.asarray(indices), first, after)
            if number + 1 < len(pieces):  # before the call that `yield` starts: its device works in order
                indices = self._indices(keys, after)
            yield first, after, block

    def batch(self, data: Block, key: PRNGKey, step: Array) -> Minibatch:
        return jax.tree.map(lambda field: field[step - data.first], data.batches)

    def _indices(self, keys: PRNGKey, first: int) -> Array:
        """i32[M, K, B], the transitions of updates first, ..., first + K - 1 of every member."""
        return _indices(keys, np.int32(first), self._length, self._data.size, self._batch_size)

    def _block(self, indices: np.ndarray, first: int, after: int) -> Block:
        num_members, length, _ = indices.shape
        used = indices[:, : after - first]
        taken = self._data.take(used.reshape(-1))

        def shape(field: np.ndarray) -> np.ndarray:
            """[M, K, B, ...]: calls of one shape need one program, so a short one is filled up."""
            by_update = field.reshape(*used.shape, *field.shape[1:])
            if after - first == length:
                return by_update
            block = np.zeros((num_members, length, *by_update.shape[2:]), field.dtype)
            block[:, : after - first] = by_update
            return block

        block = Block(np.full(num_members, first, np.int32), jax.tree.map(shape, taken))
        return jax.device_put(block, self._sharding)


@functools.partial(jax.jit, static_argnames=("length", "size", "batch_size"))
def _indices(keys: PRNGKey, first: Array, length: int, size: int, batch_size: int) -> Array:
    def of_update(key: PRNGKey, step: Array) -> Array:
        return sample_indices(update_keys(key, step)[0], size, batch_size)

    steps = first + jnp.arange(length)
    return jax.vmap(lambda key: jax.vmap(functools.partial(of_update, key))(steps))(keys)


Feed = Resident | Streamed  # `partition` is that of its pieces' data over the members
