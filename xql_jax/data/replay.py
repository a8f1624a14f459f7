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
import numpy as np

from xql_jax.data import sampling
from xql_jax.numerics.pytrees import Distinct
from xql_jax.types import (
    AnyBatch,
    Array,
    Batch,
    ChunkBatch,
    EpisodeBatch,
    Horizon,
    Minibatch,
    PRNGKey,
)

TRIES = 8  # rows among which the first of a whole chunk is taken


@flax.struct.dataclass
class ReplayBuffer(Distinct):
    """The transitions that were inserted last, at most `capacity` of them.

    Transition k, counted from 0 over all that were ever inserted, lies in row k % capacity until transition
    k + capacity takes its place.
    """

    # A `Batch`, `CalibratedBatch` or `EpisodeBatch`, f32[capacity, ...]; rows that were never written are 0.
    data: Any
    inserted: Array  # i32[], transitions ever inserted, below 2^31

    @property
    def capacity(self) -> int:
        """The number of rows."""
        return len(self.data.rewards)


@flax.struct.dataclass
class PriorData(Distinct):
    """Offline transitions, and their share of each minibatch, for fine-tuning.

    They lie once on the device, however many members there are, and checkpoints do not need them.
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


@flax.struct.dataclass
class Spans(Distinct):
    """How transitions over a horizon are made of a buffer's rows, an `EpisodeBatch`."""

    discount: Array | float
    horizon: Horizon = flax.struct.field(pytree_node=False)
    num_environments: int = flax.struct.field(pytree_node=False, default=1)  # that inserted in turn


def sample_buffer(
    buffer: ReplayBuffer,
    key: PRNGKey,
    batch_size: int,
    prior: PriorData | None = None,
    spans: Spans | None = None,
) -> Minibatch:
    """Draws f32[batch_size, ...] uniformly, with replacement, from the buffer and from offline data.

    An empty buffer gives zeros. With offline data, the buffer's capacity is at most `prior.capacity`. With
    `spans`, the buffer's transitions span its horizon, and so must those of the offline data already.
    """
    if prior is None:
        rows = _drawn(buffer, key, size(buffer), batch_size, spans)
        return take(buffer, rows, spans)
    if prior.fraction is None:
        return _sample_all_alike(prior, buffer, key, batch_size, spans)
    key_prior, key_buffer = jax.random.split(key)
    count = round(prior.fraction * batch_size)
    offline = sampling.sample(prior.batch, key_prior, count)
    online = sample_buffer(buffer, key_buffer, batch_size - count, spans=spans)
    return jax.tree.map(lambda *fields: jnp.concatenate(fields), offline, online)


def _sample_all_alike(
    prior: PriorData, buffer: ReplayBuffer, key: PRNGKey, batch_size: int, spans: Spans | None
) -> Minibatch:
    left = jnp.clip(prior.capacity - buffer.inserted, 0, prior.size)  # offline transitions, the last ones
    rows = _drawn(buffer, key, left + size(buffer), batch_size, spans, left)
    is_offline = rows < left
    online = take(buffer, jnp.where(is_offline, 0, rows - left), spans)

    def pick(offline: Array, theirs: Array) -> Array:
        ours = jnp.take(offline, jnp.where(is_offline, prior.size - left + rows, 0), axis=0, mode="clip")
        return jnp.where(is_offline.reshape(-1, *[1] * (ours.ndim - 1)), ours, theirs)

    return jax.tree.map(pick, prior.batch, online)


def _drawn(
    buffer: ReplayBuffer,
    key: PRNGKey,
    total: Array,
    batch_size: int,
    spans: Spans | None,
    others: Array | int = 0,
) -> Array:
    """Draws rows i32[batch_size] below `total`, of which the first `others` are not of the buffer.

    Each place takes the first of `TRIES` rows from which the horizon's chunk was carried out to its end. If
    there is none, as where most episodes are shorter, its chunk is cut: V of the last known state follows.
    """
    if spans is None or not spans.horizon.is_chunk:
        return sampling.sample_indices(key, total, batch_size)
    rows = sampling.sample_indices(key, total, TRIES * batch_size)
    *_, is_whole = _window(buffer, jnp.maximum(rows - others, 0), spans)
    is_whole |= rows < others
    rows, is_whole = rows.reshape(TRIES, batch_size), is_whole.reshape(TRIES, batch_size)
    return jnp.take_along_axis(rows, is_whole.argmax(0)[None], axis=0)[0]


def _window(buffer: ReplayBuffer, starts: Array, spans: Spans) -> tuple[Array, Array, Array, Array]:
    """Returns the windows of h steps, the horizon's, that begin at rows i32[B] of the buffer.

    They are rows i32[B, h]; bool[B, h], false after an episode's end or what was inserted last; i32[B], the
    row of the last step within; and bool[B], whether a window is whole: of h steps, or ended by a terminal.
    """
    newest, capacity = buffer.inserted - 1, buffer.capacity
    numbers = newest - (newest - starts) % capacity  # of the transitions, over all ever inserted
    numbers = numbers[:, None] + spans.num_environments * jnp.arange(spans.horizon.steps)
    rows = numbers % capacity
    goes_on = (buffer.data.ends[rows[:, :-1]] == 0) & (numbers[:, 1:] <= newest)
    within = jnp.pad(jnp.cumprod(goes_on, axis=1), ((0, 0), (1, 0)), constant_values=1) == 1
    length = within.sum(1)
    final = jnp.take_along_axis(rows, length[:, None] - 1, axis=1)[:, 0]
    is_whole = (length == spans.horizon.steps) | (buffer.data.masks[final] == 0)
    return rows, within, final, is_whole


def take(buffer: ReplayBuffer, rows: Array, spans: Spans | None = None) -> Minibatch:
    """Returns the transitions of rows i32[B], over the horizon of `spans`."""
    if spans is None:
        return sampling.gather(buffer.data, rows)
    data, (steps, within, final, _) = buffer.data, _window(buffer, rows, spans)
    powers = spans.discount ** jnp.arange(spans.horizon.steps)
    rewards = (data.rewards[steps] * powers * within).sum(1)
    masks = data.masks[final] * powers[within.sum(1) - 1]
    observations, following = data.observations[rows], data.next_observations[final]
    if not spans.horizon.is_chunk:
        return Batch(observations, data.actions[rows], rewards, masks, following)
    chunk = spans.horizon.steps * data.actions.shape[1]  # no -1: there may be no rows
    actions = data.actions[steps].reshape(len(rows), chunk)
    return ChunkBatch(observations, actions, rewards, masks, following, within.astype(jnp.float32))


def end_episodes(buffer: ReplayBuffer, count: int) -> ReplayBuffer:
    """Returns the buffer, NumPy's, with the last `count` transitions marked as their episodes' last."""
    if isinstance(buffer.data, EpisodeBatch):
        numbers = np.arange(max(0, int(buffer.inserted) - count), int(buffer.inserted))
        buffer.data.ends[numbers % buffer.capacity] = 1.0
    return buffer
