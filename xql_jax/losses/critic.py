"""The Q function's target and its regression losses."""

import chex
import jax
import optax

from xql_jax.types import Array, Numeric


def check_pairs(*arrays: Array) -> None:
    """Raises AssertionError, while tracing, unless all are f32[B]. (B,) against (B, 1) would broadcast."""
    chex.assert_rank(arrays, 1)
    chex.assert_equal_shape(arrays)


def td_target(rewards: Array, masks: Array, next_values: Array, *, discount: Numeric) -> Array:
    """One-step target r + discount * mask * V(s') of each example, f32[B], reward units.

    A constant for gradients. `masks` is 1 - terminal: a time-out bootstraps. Garg et al. 2023, Eq. 14.
    """
    check_pairs(rewards, masks, next_values)
    return jax.lax.stop_gradient(rewards + discount * masks * next_values)


def mse_loss(values: Array, targets: Array) -> Array:
    """Squared error of each example, f32[B], reward units squared (Garg et al. 2023, Eq. 14)."""
    check_pairs(values, targets)
    return (values - jax.lax.stop_gradient(targets)) ** 2


def huber_loss(values: Array, targets: Array, *, delta: Numeric = 20.0) -> Array:
    """Huber loss of each example, f32[B], half the squared error near 0: the authors' code, not Eq. 14."""
    check_pairs(values, targets)
    return optax.huber_loss(values, jax.lax.stop_gradient(targets), delta=delta)
