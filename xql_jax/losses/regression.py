"""Targets of Q, losses of means, expectiles and quantiles, and weights of advantage-weighted regression."""

from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from xql_jax.types import Array, Numeric

Vector = jax.Array | np.ndarray  # f32[B]
V = TypeVar("V", jax.Array, Vector)


def check_pairs(*arrays: Vector) -> None:
    """Raises AssertionError, while tracing, unless all arrays are f32[B]: (B,) would broadcast to (B, 1)."""
    chex.assert_rank(arrays, 1)
    chex.assert_equal_shape(arrays)


def difference(values: V, targets: V) -> V:
    """targets - values of each example, f32[B]; the targets are constants for gradients."""
    check_pairs(values, targets)
    return jax.lax.stop_gradient(targets) - values


def td_target(rewards: Array, masks: Array, next_values: Array, *, discount: Numeric) -> Array:
    """One-step target r + discount * mask * V(s') of each example, f32[B]; Garg et al. 2023, Eq. 14.

    A constant for gradients. `masks` is 1 - terminal: a time-out bootstraps.
    """
    check_pairs(rewards, masks, next_values)
    return jax.lax.stop_gradient(rewards + discount * masks * next_values)


def mse_loss(values: Array, targets: Array) -> Array:
    """Squared error of each example, f32[B] (Garg et al. 2023, Eq. 14)."""
    check_pairs(values, targets)
    return (values - jax.lax.stop_gradient(targets)) ** 2


def huber_loss(values: Array, targets: Array, *, delta: Numeric = 20.0) -> Array:
    """Huber loss of each example, f32[B], half the squared error near 0: the authors' code, not Eq. 14."""
    check_pairs(values, targets)
    losses: Array = optax.huber_loss(values, jax.lax.stop_gradient(targets), delta=delta)
    return losses


def expectile_loss(values: Vector, targets: Vector, *, expectile: Numeric) -> Array:
    """Asymmetric squared error of each example: |expectile - 1(targets < values)| * (targets - values)^2.

    Its minimiser is the expectile of the targets: the mean at 0.5, the maximum as expectile goes to 1.
    Source: Kostrikov et al. 2021, Eq. 5.
    """
    error = difference(values, targets)
    return jnp.where(error > 0, expectile, 1.0 - expectile) * error**2


def pinball_loss(values: Vector, targets: Vector, *, quantile: float) -> Array:
    """max(quantile * y, (quantile - 1) * y) of each example, y = targets - values: fits their quantile."""
    y = difference(values, targets)
    return jnp.maximum(quantile * y, (quantile - 1.0) * y)


def advantage_weight(advantages: Array, *, awr_temperature: Numeric, max_weight: Numeric = 100.0) -> Array:
    """AWR weight min(exp(awr_temperature * advantage), max_weight), f32[B], constant for gradients.

    Source: Garg et al. 2023, Eq. 12, there with 1 / beta. Differs: as in the authors' code (and IQL's) the
    inverse temperature is a parameter of its own, and the weight is capped (inf: it is not).
    """
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(awr_temperature * advantages), max_weight))
