"""Policy weights: how much each data action counts when the policy is fitted by weighted log-likelihood."""

import jax
import jax.numpy as jnp

from xql_jax.types import Array, Numeric


def exponential_advantage_weight(
    advantages: Array, *, awr_temperature: Numeric, max_weight: Numeric = 100.0
) -> Array:
    """AWR weight of each example, constant for gradients: min(exp(awr_temperature * advantage), max_weight).

    Source: Garg et al. 2023, Eq. 12, where the weight is exp((Q - V) / beta).
    Differs: as in the authors' code (and IQL's) the inverse temperature is a parameter of its own instead of
    1 / beta, and the weight is capped.
    Args:
        advantages: f32[B], reward units.
        awr_temperature: 1 / reward units.
        max_weight: cap of the weight; inf turns it off.
    Returns:
        f32[B], dimensionless.
    """
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(awr_temperature * advantages), max_weight))
