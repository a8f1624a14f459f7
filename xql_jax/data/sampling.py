"""Draws minibatches of transitions or of windows; and what the device holds."""

from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.memory import free_memory
from xql_jax.numerics.pytrees import Distinct
from xql_jax.types import AnyBatch, Array, Minibatch, PRNGKey, Windows

Tree = TypeVar("Tree")
EXACT_BELOW = 2**24  # rows; up to so many, JAX's draw favours none over another by more than 0.4%
SHARE_OF_MEMORY = 0.6  # of what is free, for data; the rest is for networks, their gradients and XLA


@flax.struct.dataclass
class Trajectories(Distinct):
    """The transitions of trajectories in order, each the start of a window; every row is stored once.

    Drawing rows uniformly draws trajectories in proportion to their length, and uniform starts within them.
    """

    observations: Array | np.ndarray  # f32[N, O]
    actions: Array | np.ndarray  # f32[N, A]
    returns_to_go: Array | np.ndarray  # f32[N], reward units
    timesteps: Array | np.ndarray  # i32[N], rows of the trajectory before this one
    left: Array | np.ndarray  # i32[N], rows of the trajectory from this one on, itself included
    highest_return: Array | np.ndarray  # f32[], of a trajectory
    length: int = flax.struct.field(pytree_node=False, default=1)  # K of the windows

    def windows(self, starts: Array | np.ndarray) -> Windows:
        """Returns windows of K = `length` rows that start at rows `starts`, i32[B].

        If the trajectory ends earlier, the window is padded with zeros at its start, where its `known` is
        false. The result is of NumPy or JAX, like this object's arrays.
        """

        def take(field: Array | np.ndarray, rows: Array | np.ndarray) -> Any:
            return field.take(rows, axis=0, mode="clip")

        padding = self.length - take(self.left, starts).clip(max=self.length)
        offsets = np.arange(self.length, dtype=np.int32) - padding[:, None]
        known = offsets >= 0
        rows = starts[:, None] + offsets * known
        fields = (
            take(self.observations, rows) * known[..., None],
            take(self.actions, rows) * known[..., None],
            take(self.returns_to_go, rows) * known,
            take(self.timesteps, rows) * known,
            known,
            self.highest_return.repeat(len(starts)),
        )
        return Windows._make(fields)


@flax.struct.dataclass
class Packed(Distinct):
    """Transitions with all their fields in one row: a minibatch is one gather, not one for each field.

    Compiled for a TPU v5e, an update of XQL then reads and writes 74 MB instead of 334.
    """

    rows: Array  # f32[N, W]
    fields: Any = flax.struct.field(pytree_node=False)  # a batch of the fields' widths; None: no axis

    @classmethod
    def of(cls, batch: AnyBatch) -> "Packed":
        """Packs the fields f32[N, ...] of a batch, of NumPy or JAX."""
        widths = [field.shape[1] if field.ndim > 1 else None for field in batch]
        concatenate = np.concatenate if isinstance(batch[0], np.ndarray) else jnp.concatenate
        rows = concatenate([field.reshape(len(field), -1) for field in batch], 1)
        return cls(rows, type(batch)._make(widths))

    def take(self, indices: Array) -> AnyBatch:
        """Returns the batch of the rows i32[B]; of rows [K, B, W], the batch at one place i32[]."""
        taken, start = jnp.take(self.rows, indices, axis=0, mode="clip"), 0
        fields = []
        for width in self.fields:
            fields.append(taken[..., start] if width is None else taken[..., start : start + width])
            start += width or 1
        return type(self.fields)(*fields)


def sample(
    data: AnyBatch | Trajectories | Packed, key: PRNGKey, batch_size: int, size: Array | None = None
) -> Minibatch:
    """Draws transitions [batch_size, ...] or windows, of the first `size` i32[], with replacement."""
    if isinstance(data, Packed):
        return data.take(sample_indices(key, len(data.rows), batch_size))
    indices = sample_indices(key, len(data.observations) if size is None else size, batch_size)
    if isinstance(data, Trajectories):
        return data.windows(indices)
    return gather(data, indices)


def gather(fields: Tree, rows: Array) -> Tree:
    """Returns the rows i32[...], which are in range, of fields [N, ...]."""
    # "clip": they are in range by construction, and the default mode would fill with NaN at a cost.
    return jax.tree.map(lambda field: jnp.take(field, rows, axis=0, mode="clip"), fields)


def sample_indices(key: PRNGKey, size: int | Array, batch_size: int) -> Array:
    """Draws i32[batch_size] uniformly from 0, ..., size - 1 < 2^31, with replacement.

    JAX's `randint` takes 32 random bits modulo the size, so the first (2^32 mod size) rows are likelier than
    the others: of 10^9 rows, by a quarter. Large sizes, and sizes i32[] that only the device knows, are
    scaled by 64 random bits, which leaves differences below 2^-33. For size 0, the result is always 0.
    """
    if not isinstance(size, Array) and size <= EXACT_BELOW:
        return jax.random.randint(key, (batch_size,), 0, size)
    high, low = jax.random.bits(key, (2, batch_size), jnp.uint32)
    # floor(size * (high 2^32 + low) / 2^64): the upper word of size * high, and the carry of the lower words.
    carry = high * jnp.uint32(size) + _upper_word(low, size) < _upper_word(low, size)
    return (_upper_word(high, size) + carry).astype(jnp.int32)


def _upper_word(x: Array, y: int | Array) -> Array:
    """Returns the upper 32 of the 64 bits of x * y, by halves: the device has no 64-bit integers."""
    x_high, x_low = x >> 16, x & 0xFFFF
    y_high, y_low = jnp.uint32(y >> 16), jnp.uint32(y & 0xFFFF)
    middle = x_high * y_low + (x_low * y_low >> 16)
    return x_high * y_high + (middle >> 16) + ((x_low * y_high + (middle & 0xFFFF)) >> 16)


def room_on_device() -> int:
    """Returns the bytes that data may take on each device that JAX uses."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics is None or "bytes_limit" not in statistics:  # a CPU, which has no memory of its own
        return int(SHARE_OF_MEMORY * free_memory())
    return int(SHARE_OF_MEMORY * (statistics["bytes_limit"] - statistics["bytes_in_use"]))
