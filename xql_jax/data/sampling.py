"""Minibatches: which transitions update t learns from, drawn where the data lies or on the host."""

import jax
import jax.numpy as jnp

from xql_jax.types import Array, Batch, PRNGKey


def sample_indices(key: PRNGKey, size: int, batch_size: int) -> Array:
    """Draws i32[batch_size] uniformly from 0, ..., size - 1, with replacement; `key` is used once."""
    return jax.random.randint(key, (batch_size,), 0, size)


def sample(data: Batch, key: PRNGKey, batch_size: int) -> Batch:
    """Draws transitions uniformly, with replacement.

    Args:
        data: fields [N, ...] of all transitions.
        key: used once.
        batch_size: static under jit.
    Returns:
        fields [batch_size, ...]; row i of every field is the same transition.
    """
    indices = sample_indices(key, len(data.rewards), batch_size)
    # "clip": the indices are in range by construction, and the default mode would fill with NaN at a cost.
    return jax.tree.map(lambda field: jnp.take(field, indices, axis=0, mode="clip"), data)
