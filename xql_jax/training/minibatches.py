"""Sources of minibatches for compiled updates: data on every device, or on the host.

All of them draw update t's minibatch from the same key, so a run learns from the same transitions wherever
the data are. Each source has two methods:

`pieces` divides updates start, ..., stop - 1 of members with keys [M] into calls of the compiled program.
`batch` runs inside the program: it returns one update's minibatch, from the member's data and a key.
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

BLOCK_BYTES = 32 * 2**20  # a few hundred updates of one member; large enough to amortise each transfer


def update_keys(key: PRNGKey, step: Array) -> tuple[PRNGKey, PRNGKey]:
    """Returns the two keys of an update: one draws the minibatch, the other is passed to the learner."""
    key_batch, key_update = jax.random.split(jax.random.fold_in(key, step))
    return key_batch, key_update


class Resident:
    """All transitions on every device, shared by all members; minibatches are drawn inside the program."""

    is_shared = True

    def __init__(self, data: AnyBatch | Trajectories, mesh: Mesh, batch_size: int):
        self.partition = PartitionSpec()
        self._data = jax.device_put(data, NamedSharding(mesh, self.partition))
        self._batch_size = batch_size

    def pieces(self, keys: PRNGKey, start: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        yield start, stop, self._data

    def batch(self, data: AnyBatch | Trajectories, key: PRNGKey, step: Array) -> Minibatch:
        return sample(data, key, self._batch_size)


class Block(NamedTuple):
    """Minibatches of K successive updates, for all members [M] or, inside the program, for one member."""

    first: Any  # i32[M], the first update
    batches: Minibatch  # fields [M, K, B, ...]


class Streamed:
    """Minibatches sent from the host in blocks; the next block is gathered while the device works.

    Transitions are drawn as by `Resident`: uniformly from all of the data and with the same keys. A block is
    not a shuffled subset of the data, so the draw has no bias.
    """

    is_shared = False

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
        firsts = range(start, max(stop, start + 1), self._length)  # zero updates also make one call
        pieces = [(first, min(first + self._length, stop)) for first in firsts]
        indices = self._indices(keys, start)
        for number, (first, after) in enumerate(pieces):
            block = self._block(np.asarray(indices), first, after)
            if number + 1 < len(pieces):  # before `yield`: the device runs what it is given in order
                indices = self._indices(keys, after)
            yield first, after, block

    def batch(self, data: Block, key: PRNGKey, step: Array) -> Minibatch:
        return jax.tree.map(lambda field: field[step - data.first], data.batches)

    def _indices(self, keys: PRNGKey, first: int) -> Array:
        """i32[M, K, B], the transitions' indices for updates first, ..., first + K - 1 of every member."""
        return _indices(keys, np.int32(first), self._length, self._data.size, self._batch_size)

    def _block(self, indices: np.ndarray, first: int, after: int) -> Block:
        num_members, length, _ = indices.shape
        used = indices[:, : after - first]
        taken = self._data.take(used.reshape(-1))

        def shape(field: np.ndarray) -> np.ndarray:
            """Shapes a field to [M, K, B, ...]; pads a short block so that one program serves all calls."""
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


# `partition` says how the data of `pieces` is split over the mesh. `is_shared` is true if all members on a
# device use the same data, false if each member has its own part.
Feed = Resident | Streamed
