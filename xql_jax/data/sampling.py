"""Minibatches drawn where the data lies, inside the compiled program."""

import jax
import jax.numpy as jnp

from xql_jax.types import Batch, PRNGKey


def sample(data: Batch, key: PRNGKey, batch_size: int) -> Batch:
    """Draws transitions uniformly, with replacement.

    Args:
        data: fields [N, ...] of all transitions.
        key: used once.
        batch_size: static under jit.
    Returns:
        fields [batch_size, ...]; row i of every field is the same transition.
    """
    indices = jax.random.randint(key, (batch_size,), 0, len(data.rewards))
    # "clip": the indices are in range by construction, and the default mode would fill with NaN at a cost.
    return jax.tree.map(lambda field: jnp.take(field, indices, axis=0, mode="clip"), data)
