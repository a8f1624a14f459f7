"""The Q function's target and its regression losses."""

import chex
import jax
import optax

from xql_jax.types import Array, Numeric


def td_target(rewards: Array, masks: Array, next_values: Array, *, discount: Numeric) -> Array:
    """One-step target r + discount * mask * V(s') of each example, f32[B], reward units.

    A constant for gradients. `masks` is 1 - terminal: a time-out bootstraps.

    Source: Garg et al. 2023, Eq. 14.
    Raises:
        AssertionError: while tracing, if the shapes differ.
    """
    chex.assert_rank([rewards, masks, next_values], 1)
    chex.assert_equal_shape([rewards, masks, next_values])
    return jax.lax.stop_gradient(rewards + discount * masks * next_values)


def mse_loss(values: Array, targets: Array) -> Array:
    """Squared error of each example, f32[B], reward units squared (Garg et al. 2023, Eq. 14)."""
    chex.assert_rank([values, targets], 1)
    chex.assert_equal_shape([values, targets])
    return (values - jax.lax.stop_gradient(targets)) ** 2


def huber_loss(values: Array, targets: Array, *, delta: Numeric = 20.0) -> Array:
    """Huber loss of each example, f32[B]: error^2 / 2 up to |error| = delta, linear beyond.

    Source: the authors' code (delta 20 reward units), where the paper's Eq. 14 has the squared error; note
    the factor 1/2 between the two.
    """
    chex.assert_rank([values, targets], 1)
    chex.assert_equal_shape([values, targets])
    return optax.huber_loss(values, jax.lax.stop_gradient(targets), delta=delta)
