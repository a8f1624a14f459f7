"""Draws minibatches: which transitions update t learns from, on the device or on the host."""

from typing import Any

import jax
import jax.numpy as jnp

from xql_jax.data.windows import Trajectories
from xql_jax.types import Array, PRNGKey

EXACT_BELOW = 2**24  # rows; up to so many, JAX's draw favours none over another by more than 0.4%


def sample_indices(key: PRNGKey, size: int | Array, batch_size: int) -> Array:
    """Draws i32[batch_size] uniformly from 0, ..., size - 1 < 2^31, with replacement; `key` is used once.

    JAX's `randint` takes 32 random bits modulo the size, so that the first (2^32 mod size) rows are likelier
    than the others: of 10^9 rows, likelier by a quarter. Large sizes, and sizes i32[] that only the device
    knows, are scaled by 64 random bits instead, which leaves differences below 2^-33. For size 0, the result
    is always 0.
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


def sample(data: Any, key: PRNGKey, batch_size: int, size: Array | None = None) -> Any:
    """Draws transitions uniformly, with replacement; from `Trajectories`, the windows that start there.

    Args:
        data: fields [N, ...] of all transitions.
        key: used once.
        batch_size: static under jit.
        size: i32[]; only the first `size` of them are drawn from; None for all.
    Returns:
        fields [batch_size, ...]; row i of every field is the same transition, or window.
    """
    indices = sample_indices(key, len(data.observations) if size is None else size, batch_size)
    if isinstance(data, Trajectories):
        return data.windows(indices)
    # "clip": the indices are in range by construction, and the default mode would fill with NaN at a cost.
    return jax.tree.map(lambda field: jnp.take(field, indices, axis=0, mode="clip"), data)
