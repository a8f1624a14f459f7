"""Minibatches: which transitions update t learns from, drawn where the data lies or on the host."""

from typing import Any

import jax
import jax.numpy as jnp

from xql_jax.data.windows import Trajectories
from xql_jax.types import Array, PRNGKey

EXACT_BELOW = 2**24  # of so many rows JAX's draw favours none over another by more than 0.4%


def sample_indices(key: PRNGKey, size: int | Array, batch_size: int) -> Array:
    """Draws i32[batch_size] uniformly from 0, ..., size - 1 < 2^31, with replacement; `key` is used once.

    JAX's `randint` takes 32 random bits modulo the size, so that the first (2^32 mod size) rows are likelier
    than the others: a quarter likelier of 10^9 rows. Large sizes are scaled by 64 random bits instead, which
    leaves differences below 2^-33; so are sizes i32[] that only the device knows. Of size 0, it is always 0.
    """
    if not isinstance(size, Array) and size <= EXACT_BELOW:
        return jax.random.randint(key, (batch_size,), 0, size)
    high, low = jax.random.bits(key, (2, batch_size), jnp.uint32)
    # floor(size * (high 2^32 + low) / 2^64): the upper word of size * high, and the carry of the lower words.
    carry = high * jnp.uint32(size) + _upper_word(low, size) < _upper_word(low, size)
    return (_upper_word(high, size) + carry).astype(jnp.int32)


def _upper_word(x: Array, y: int | Array) -> Array:
    """The upper 32 of the 64 bits of x * y, by halves: there is no 64-bit integer on the device."""
    x_high, x_low = x >> 16, x & 0xFFFF
    y_high, y_low = jnp.uint32(y >> 16), jnp.uint32(y & 0xFFFF)
    middle = x_high * y_low + (x_low * y_low >> 16)
    return x_high * y_high + (middle >> 16) + ((x_low * y_high + (middle & 0xFFFF)) >> 16)


def sample(data: Any, key: PRNGKey, batch_size: int, size: Array | None = None) -> Any:
    """Draws transitions uniformly, with replacement; of `Trajectories` the windows that start there.

    Args:
        data: fields [N, ...] of all transitions.
        key: used once.
        batch_size: static under jit.
        size: i32[], how many of them, from the first on, are there to draw from; None for all.
    Returns:
        fields [batch_size, ...]; row i of every field is the same transition, or window.
    """
    indices = sample_indices(key, len(data.observations) if size is None else size, batch_size)
    if isinstance(data, Trajectories):
        return data.windows(indices)
    # "clip": the indices are in range by construction, and the default mode would fill with NaN at a cost.
    return jax.tree.map(lambda field: jnp.take(field, indices, axis=0, mode="clip"), data)
