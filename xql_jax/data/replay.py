"""The transitions that a policy has met, in a ring on the device: inserted and drawn from inside a program.

Every function is pure; over members, `jax.vmap` them. Within a loop, and in a program to which the buffer is
donated, the ring is written in place, if the program inserts before it draws. To draw from the ring as it was
before an insertion that does not depend on what was drawn, XLA copies all of it, a thousand times as slow.
"""

import chex
import flax
import jax
import jax.numpy as jnp

from xql_jax.data import sampling
from xql_jax.pytrees import Distinct
from xql_jax.types import Array, Batch, PRNGKey


@flax.struct.dataclass
class ReplayBuffer(Distinct):
    """The last transitions that were inserted, as many as there is room for.

    Transition k, counted from 0 over all that were ever inserted, lies in row k % capacity until transition
    k + capacity takes its place.
    """

    data: Batch  # f32[capacity, ...]; rows that were never written are 0
    inserted: Array  # i32[], transitions ever inserted, below 2^31

    @property
    def capacity(self) -> int:
        """The number of rows."""
        return len(self.data.rewards)


def empty(capacity: int, observation_dim: int, action_dim: int) -> ReplayBuffer:
    """Returns a buffer with room for `capacity` transitions and none in it: all of its `num_bytes` are there.

    Raises:
        ValueError: if the capacity is below 1.
    """
    if capacity < 1:
        raise ValueError(f"a replay buffer needs a capacity of at least 1, not {capacity}")
    data = Batch(
        observations=jnp.zeros((capacity, observation_dim)),
        actions=jnp.zeros((capacity, action_dim)),
        rewards=jnp.zeros(capacity),
        masks=jnp.zeros(capacity),
        next_observations=jnp.zeros((capacity, observation_dim)),
    )
    return ReplayBuffer(data, jnp.int32(0))


def num_bytes(capacity: int, observation_dim: int, action_dim: int) -> int:
    """The size of the buffer that `empty` makes: its numbers have 4 bytes."""
    return 4 * capacity * (2 * observation_dim + action_dim + 2) + 4


def insert(buffer: ReplayBuffer, batch: Batch) -> ReplayBuffer:
    """Returns the buffer with transitions added in their order, in place of the oldest where it is full.

    Args:
        buffer: donate it, else all of it is copied.
        batch: f32[n, ...], n static and at most the capacity.
    Raises:
        ValueError: if n is more than the capacity.
        AssertionError: while tracing, if the fields do not have n rows of the buffer's shapes.
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
    """Returns i32[], how many transitions are there to draw from."""
    return jnp.minimum(buffer.inserted, buffer.capacity)


def sample(buffer: ReplayBuffer, key: PRNGKey, batch_size: int) -> Batch:
    """Draws transitions uniformly, with replacement, from those that are there.

    An empty buffer has none, and what comes back are zeros: it is the caller's to insert first.

    Args:
        buffer: with something in it.
        key: used once.
        batch_size: static under jit; it may exceed what is there.
    Returns:
        f32[batch_size, ...]; row i of every field is the same transition.
    """
    return sampling.sample(buffer.data, key, batch_size, size(buffer))
