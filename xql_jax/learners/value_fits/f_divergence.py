"""f-DVL (Sikchi et al. 2024, "Dual RL", ICLR): dual value learning with other divergences than XQL's.

Hyperparameters: hari-sikchi/DVL, offline/configs/*.py (layer norm). Its `--temp`, here lambda, is 1 by
default, and then nothing pulls V down. This project uses 0.8.
Differs: that code gives V a dropout of 0.5 on AntMaze, fits Q by a Huber loss, and takes batches of 1024.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import TemporalDifference
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.methods import Method
from xql_jax.learners.policy_objectives import ForwardKL
from xql_jax.learners.value_fit import ValueFit
from xql_jax.losses.critic import check_pairs
from xql_jax.types import Array, Numeric

ABOVE_HALF = fields.Domain("above 0.5, below 1", lambda x: 0.5 < x < 1)


def chi_square_loss(values: Array, targets: Array, *, tradeoff: Numeric) -> Array:
    """Loss lambda * f*(y) + (1 - lambda) * V of each example, f32[B]; y = Q - V, f* of Pearson's chi^2.

    f*(y) is y + y^2 / 4 for y > -2, and -1 otherwise: the conjugate over distributions, which never falls.
    Over targets x the minimiser solves E max(1 + (x - V) / 2, 0) = (1 - lambda) / lambda.

    Source: Sikchi et al. 2024, Eq. 13, Table 1. Values and targets (constants) f32[B], in reward units.
    Differs: the authors' code (offline/critic.py, line 11) has max(y + y^2 / 4, 0), which rises again for y <
    -4, so that actions far below V push it down with a growing force.
    """
    check_pairs(values, targets)
    y = jnp.maximum(jax.lax.stop_gradient(targets) - values, -2.0)
    return tradeoff * (y + y**2 / 4.0) + (1.0 - tradeoff) * values


def total_variation_loss(values: Array, targets: Array, *, tradeoff: Numeric) -> Array:
    """lambda * max(y, 0) + (1 - lambda) * V of each example, f32[B], y = Q - V.

    Over targets the minimiser is their quantile (2 lambda - 1) / lambda: 0.75 at lambda = 0.8.

    Source: Sikchi et al. 2024, Table 1, as in the authors' code. Arguments as above.
    """
    check_pairs(values, targets)
    y = jax.lax.stop_gradient(targets) - values
    return tradeoff * jnp.maximum(y, 0.0) + (1.0 - tradeoff) * values


@flax.struct.dataclass
class ChiSquare(ValueFit):
    """Fits V to the soft maximum of Q that belongs to the chi^2 divergence."""

    tradeoff: Numeric = fields.traced(0.8, ABOVE_HALF)  # lambda: the larger, the nearer V is to the maximum

    def loss_of(self, values: Array, targets: Array) -> Array:
        return chi_square_loss(values, targets, tradeoff=self.tradeoff)


@flax.struct.dataclass
class TotalVariation(ValueFit):
    """Fits V to a quantile of Q."""

    tradeoff: Numeric = fields.traced(0.8, ABOVE_HALF)  # lambda

    def loss_of(self, values: Array, targets: Array) -> Array:
        return total_variation_loss(values, targets, tradeoff=self.tradeoff)


def _method(value: type[ValueFit], tradeoff_on_mazes: float) -> Method:
    by_suite: dict[str, dict[str, Any]] = {
        "antmaze": {"decay_actor_lr": False},
        "pointmaze": {"tradeoff": tradeoff_on_mazes},  # chosen here, on seeds 100 and 101
    }
    return Method(
        InSample,
        {"layer_norm": True},
        by_suite=by_suite,
        value=value,
        policy=ForwardKL,
        critic=TemporalDifference,
    )


METHODS = {"dvl_chi2": _method(ChiSquare, 0.6), "dvl_tv": _method(TotalVariation, 0.9)}
