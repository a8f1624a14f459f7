"""A replay buffer on the device, from which a program draws minibatches, alone or with offline data.

Every function is pure; for several members (policies trained together), `jax.vmap` them. The buffer is a ring
of transitions. It is written in place in a loop, and in a program to which the buffer is donated, if the
program inserts before it samples. If it samples first, and the insertion does not depend on the sample, XLA
copies the whole ring, which takes a thousand times as long.
"""

from typing import Any

import chex
import flax
import jax
import jax.numpy as jnp

from xql_jax.data import sampling
from xql_jax.pytrees import Distinct
from xql_jax.types import AnyBatch, Array, Batch, Minibatch, PRNGKey


@flax.struct.dataclass
class ReplayBuffer(Distinct):
    """The transitions that were inserted last, at most `capacity` of them.

    Transition k, counted from 0 over all that were ever inserted, lies in row k % capacity until transition
    k + capacity takes its place.
    """

    data: Any  # a `Batch` or `CalibratedBatch`, f32[capacity, ...]; rows that were never written are 0
    inserted: Array  # i32[], transitions ever inserted, below 2^31

    @property
    def capacity(self) -> int:
        """The number of rows."""
        return len(self.data.rewards)


@flax.struct.dataclass
class PriorData(Distinct):
    """Offline transitions, and their share of each minibatch, for fine-tuning.

    They are never copied into the buffer: they lie once on the device, however many members there are, and
    checkpoints do not need them.
    """

    batch: AnyBatch  # of the buffer's type, f32[D, ...], preprocessed, oldest first
    # The share of every minibatch, as in RLPD (Ball et al. 2023). None: all transitions are equally likely,
    # as in IQL, whose replay buffer begins with the data.
    fraction: float | None = flax.struct.field(pytree_node=False, default=None)
    # If `fraction` is None: the most transitions to draw from, offline and online together. Beyond that the
    # oldest are left out, offline ones first.
    capacity: int = flax.struct.field(pytree_node=False, default=2_000_000)

    @property
    def size(self) -> int:
        """D, the number of offline transitions."""
        return len(self.batch.rewards)


def empty(
    capacity: int, observation_dim: int, action_dim: int, batch_type: type[AnyBatch] = Batch
) -> ReplayBuffer:
    """Returns an empty buffer for `capacity` transitions, for all of which memory is allocated at once."""
    sizes = {"observations": observation_dim, "next_observations": observation_dim, "actions": action_dim}
    shapes = ((capacity, sizes[name]) if name in sizes else (capacity,) for name in batch_type._fields)
    return ReplayBuffer(batch_type._make(map(jnp.zeros, shapes)), jnp.int32(0))


def num_bytes(capacity: int, observation_dim: int, action_dim: int) -> int:
    """Returns the size of a buffer of `Batch`: each of its numbers has 4 bytes."""
    return 4 * capacity * (2 * observation_dim + action_dim + 2) + 4


def insert(buffer: ReplayBuffer, batch: AnyBatch) -> ReplayBuffer:
    """Returns the buffer with transitions added in their order; in a full buffer they replace the oldest.

    Donate the buffer; otherwise all of it is copied. The batch is f32[n, ...], n at most the capacity.
    """
    count = len(batch.rewards)
    if count > buffer.capacity:
        raise ValueError(f"a replay buffer of capacity {buffer.capacity} cannot take {count} rows at once")
    rows = (buffer.inserted + jnp.arange(count)) % buffer.capacity

    def write(ring: Array, new: Array) -> Array:
        chex.assert_shape(new, (count, *ring.shape[1:]))  # others would broadcast
        return ring.at[rows].set(new, unique_indices=True, mode="promise_in_bounds")

    data = jax.tree.map(write, buffer.data, batch)
    return ReplayBuffer(data, buffer.inserted + count)


def size(buffer: ReplayBuffer) -> Array:
    """Returns i32[], the number of transitions that can be drawn."""
    return jnp.minimum(buffer.inserted, buffer.capacity)


def sample_buffer(
    buffer: ReplayBuffer, key: PRNGKey, batch_size: int, prior: PriorData | None = None
) -> Minibatch:
    """Draws f32[batch_size, ...] uniformly, with replacement, from the buffer and from offline data.

    An empty buffer gives zeros. With offline data, the buffer's capacity is at most `prior.capacity`.
    """
    if prior is None:
        return sampling.sample(buffer.data, key, batch_size, size(buffer))
    if prior.fraction is None:
        return _sample_all_alike(prior, buffer, key, batch_size)
    key_prior, key_buffer = jax.random.split(key)
    count = round(prior.fraction * batch_size)
    offline = sampling.sample(prior.batch, key_prior, count)
    online = sample_buffer(buffer, key_buffer, batch_size - count)
    return jax.tree.map(lambda *fields: jnp.concatenate(fields), offline, online)


def _sample_all_alike(prior: PriorData, buffer: ReplayBuffer, key: PRNGKey, batch_size: int) -> Minibatch:
    left = jnp.clip(prior.capacity - buffer.inserted, 0, prior.size)  # offline transitions, the last ones
    rows = sampling.sample_indices(key, left + size(buffer), batch_size)
    is_offline = rows < left

    def pick(offline: Array, online: Array) -> Array:
        ours = jnp.take(offline, jnp.where(is_offline, prior.size - left + rows, 0), axis=0, mode="clip")
        theirs = jnp.take(online, jnp.where(is_offline, 0, rows - left), axis=0, mode="clip")
        return jnp.where(is_offline.reshape(-1, *[1] * (ours.ndim - 1)), ours, theirs)

    return jax.tree.map(pick, prior.batch, buffer.data)
