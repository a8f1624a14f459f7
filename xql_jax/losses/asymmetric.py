"""Losses whose minimisers are expectiles and quantiles of the targets; f32[B], targets are constants."""

import jax.numpy as jnp

from xql_jax.losses.regression import Vector, difference
from xql_jax.types import Array, Numeric


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
