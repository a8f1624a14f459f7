"""Value losses of the in-sample methods other than Gumbel regression."""

import jax
import jax.numpy as jnp

from xql_jax.losses.critic import check_pairs
from xql_jax.types import Array, Numeric


def expectile_loss(values: Array, targets: Array, *, expectile: Numeric) -> Array:
    """Asymmetric squared error of each example: |expectile - 1(targets < values)| * (targets - values)^2.

    Over targets x the minimiser is the expectile of x: the mean at 0.5, the maximum as expectile goes to 1.
    Predictions and samples (constants) are f32[B], in reward units. Source: Kostrikov et al. 2021, Eq. 5.
    """
    check_pairs(values, targets)
    error = jax.lax.stop_gradient(targets) - values
    return jnp.where(error > 0, expectile, 1.0 - expectile) * error**2
