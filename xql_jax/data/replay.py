"""A replay buffer: a ring of transitions on the device, for insertion and sampling inside a program.

Every function is pure; for several members (policies trained together), `jax.vmap` them. The ring is written
in place in a loop, and in a program to which the buffer is donated, if the program inserts before it samples.
If it samples first, and the insertion does not depend on the sample, XLA copies the whole ring, which takes a
thousand times as long.
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
    """The transitions that were inserted last, at most `capacity` of them.

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
    """Returns an empty buffer for `capacity` transitions; all of its `num_bytes` are allocated at once.

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
    """Returns the size of the buffer that `empty` makes: each of its numbers has 4 bytes."""
    return 4 * capacity * (2 * observation_dim + action_dim + 2) + 4


def insert(buffer: ReplayBuffer, batch: Batch) -> ReplayBuffer:
    """Returns the buffer with transitions added in their order; in a full buffer they replace the oldest.

    Args:
        buffer: donate it; otherwise all of it is copied.
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
    """Returns i32[], the number of transitions that can be drawn."""
    return jnp.minimum(buffer.inserted, buffer.capacity)


def sample(buffer: ReplayBuffer, key: PRNGKey, batch_size: int) -> Batch:
    """Draws transitions uniformly, with replacement, from those in the buffer.

    An empty buffer gives zeros: the caller must insert first.

    Args:
        buffer: not empty.
        key: used once.
        batch_size: static under jit; it may exceed the number of transitions.
    Returns:
        f32[batch_size, ...]; row i of every field is the same transition.
    """
    return sampling.sample(buffer.data, key, batch_size, size(buffer))
