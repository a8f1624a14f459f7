"""f-DVL with chi^2 (Sikchi et al. 2024, "Dual RL", ICLR): dual value learning, XQL with another divergence.

Hyperparameters: hari-sikchi/DVL, offline/configs/*.py (layer norm). Its `--temp`, here lambda, is 1 by
default: then nothing pulls V down to actions that are near it. This project uses 0.8, as their example for
the total variation does (offline/README.md).
Differs: that code fits Q by a Huber loss, and takes batches of 1024. On locomotion, Kitchen and Adroit its
README also gives `--sample_random_times=1`, a uniform action per state in V's loss, here
`--config.uniform_actions=1`.
"""

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.parts import ValueFit
from xql_jax.losses.regression import check_pairs
from xql_jax.types import Array, Numeric

ABOVE_HALF = fields.Domain("above 0.5, below 1", lambda x: 0.5 < x < 1)


def chi_square_loss(values: Array, targets: Array, *, tradeoff: Numeric) -> Array:
    """Loss lambda * f(y) + (1 - lambda) * V of each example, f32[B]; y = Q - V.

    f(y) is y + y^2 / 4, the conjugate of Pearson's chi^2, where y > 0, and 0 elsewhere. Over targets x the
    minimiser is the V at which the mean of 1 + (x - V) / 2 over the x above V (and of 0 over the others)
    crosses (1 - lambda) / lambda. It is never above the largest x, and goes there with lambda to 1.

    Source: Sikchi et al. 2024, f-DVL. The conjugate itself goes on to y = -2; with it, V would lie up to 2
    above the largest x. Values and targets (constants) f32[B], in reward units.
    Differs: the authors' code (offline/critic.py, line 11) has max(y + y^2 / 4, 0) for f. This rises again
    for y < -4, so that actions far below V push it down with a growing force.
    """
    check_pairs(values, targets)
    y = jnp.maximum(jax.lax.stop_gradient(targets) - values, 0.0)
    return tradeoff * (y + y**2 / 4.0) + (1.0 - tradeoff) * values


@flax.struct.dataclass
class ChiSquare(ValueFit):
    """Fits V to a value below the maximum of Q, which also depends on how far Q lies above it."""

    tradeoff: Numeric = fields.traced(0.8, ABOVE_HALF)  # lambda: the larger, the nearer V is to the maximum

    def loss_of(self, values: Array, targets: Array) -> Array:
        return chi_square_loss(values, targets, tradeoff=self.tradeoff)


DVL_CHI2 = fields.Method(
    InSample, {"layer_norm": True}, by_suite={"antmaze": {"decay_actor_lr": False}}, value=ChiSquare
)
METHODS = {"dvl_chi2": DVL_CHI2}
