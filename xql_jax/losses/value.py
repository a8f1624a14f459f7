"""Value losses of the in-sample methods other than Gumbel regression."""

import chex
import jax
import jax.numpy as jnp

from xql_jax.types import Array, Numeric


def expectile_loss(values: Array, targets: Array, *, expectile: Numeric) -> Array:
    """Asymmetric squared error of each example: |expectile - 1(targets < values)| * (targets - values)^2.

    Over targets x the minimiser is the expectile of x: the mean at 0.5, the maximum as expectile goes to 1.

    Source: Kostrikov et al. 2021 (IQL), Eq. 5.
    Args:
        values: f32[B], predictions, reward units.
        targets: f32[B], samples, reward units; treated as constants.
        expectile: scalar in (0, 1), dimensionless.
    Returns:
        f32[B], reward units squared, non-negative. The caller reduces.
    Raises:
        AssertionError: while tracing, if the shapes differ.
    """
    chex.assert_rank([values, targets], 1)
    chex.assert_equal_shape([values, targets])
    error = jax.lax.stop_gradient(targets) - values
    return jnp.where(error > 0, expectile, 1.0 - expectile) * error**2
