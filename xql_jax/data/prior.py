"""Minibatches from offline transitions and a replay buffer together, for fine-tuning.

Every function is pure, and runs inside the program that learns. The offline transitions are never copied into
the buffer: they lie once on the device, however many members (policies trained together) there are, and
checkpoints do not need them.
"""

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.data import replay, sampling
from xql_jax.data.replay import ReplayBuffer
from xql_jax.pytrees import Distinct
from xql_jax.types import Array, Batch, PRNGKey


@flax.struct.dataclass
class PriorData(Distinct):
    """Offline transitions, and their share of each minibatch."""

    batch: Batch  # f32[D, ...], preprocessed, oldest first
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


def sample(prior: PriorData | None, buffer: ReplayBuffer, key: PRNGKey, batch_size: int) -> Batch:
    """Draws transitions with replacement, from the buffer and from the offline data.

    Args:
        prior: None to draw from the buffer alone.
        buffer: not empty; its capacity is at most `prior.capacity`.
        key: used once.
        batch_size: static under jit.
    Returns:
        f32[batch_size, ...]; row i of every field is the same transition.
    """
    if prior is None:
        return replay.sample(buffer, key, batch_size)
    if prior.fraction is None:
        return _sample_alike(prior, buffer, key, batch_size)
    key_prior, key_buffer = jax.random.split(key)
    count = round(prior.fraction * batch_size)
    offline = sampling.sample(prior.batch, key_prior, count)
    online = replay.sample(buffer, key_buffer, batch_size - count)
    return jax.tree.map(lambda *fields: jnp.concatenate(fields), offline, online)


def _sample_alike(prior: PriorData, buffer: ReplayBuffer, key: PRNGKey, batch_size: int) -> Batch:
    held = jnp.clip(prior.capacity - buffer.inserted, 0, prior.size)  # offline transitions left, the last
    rows = sampling.sample_indices(key, held + replay.size(buffer), batch_size)
    is_offline = rows < held

    def pick(offline: Array, online: Array) -> Array:
        ours = jnp.take(offline, jnp.where(is_offline, prior.size - held + rows, 0), axis=0, mode="clip")
        theirs = jnp.take(online, jnp.where(is_offline, 0, rows - held), axis=0, mode="clip")
        return jnp.where(is_offline.reshape(-1, *[1] * (ours.ndim - 1)), ours, theirs)

    return jax.tree.map(pick, prior.batch, buffer.data)
