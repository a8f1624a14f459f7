"""f-DVL with the total variation (Sikchi et al. 2024, "Dual RL", ICLR); see `dvl_chi2.py` for sources.

Differs: as for `dvl_chi2.py`.
"""

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.parts import ValueFit
from xql_jax.learners.value_fits.dvl_chi2 import ABOVE_HALF
from xql_jax.losses.regression import check_pairs
from xql_jax.types import Array, Numeric


def total_variation_loss(values: Array, targets: Array, *, tradeoff: Numeric) -> Array:
    """lambda * max(y, 0) + (1 - lambda) * V of each example, f32[B], y = Q - V.

    Over targets the minimiser is their quantile (2 lambda - 1) / lambda: 0.75 at lambda = 0.8.

    Source: Sikchi et al. 2024, Table 1, as in the authors' code. Arguments as `chi_square_loss`.
    """
    check_pairs(values, targets)
    y = jax.lax.stop_gradient(targets) - values
    return tradeoff * jnp.maximum(y, 0.0) + (1.0 - tradeoff) * values


@flax.struct.dataclass
class TotalVariation(ValueFit):
    """Fits V to a quantile of Q."""

    tradeoff: Numeric = fields.traced(0.8, ABOVE_HALF)  # lambda

    def loss_of(self, values: Array, targets: Array) -> Array:
        return total_variation_loss(values, targets, tradeoff=self.tradeoff)


DVL_TV = fields.Method(
    InSample,
    {"layer_norm": True},
    by_suite={
        "antmaze": {"decay_actor_lr": False},
        "pointmaze": {"tradeoff": 0.9},  # chosen here, on seeds 100 and 101
    },
    value=TotalVariation,
)
METHODS = {"dvl_tv": DVL_TV}
