"""f-DVL with chi^2 or the total variation (Sikchi et al. 2024, "Dual RL", ICLR): XQL with another divergence.

Hyperparameters: hari-sikchi/DVL, offline/configs/*.py (layer norm). Its `--temp`, here lambda, is 1 by
default: then nothing pulls V down to actions that are near it. This project uses 0.8, as their example for
the total variation does (offline/README.md).
Differs: that code fits Q by a Huber loss, and takes batches of 1024. On locomotion, Kitchen and Adroit its
README also gives `--sample_random_times=1`, a uniform action per state in V's loss, here
`--uniform_actions=1`.
"""

import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.method import Method
from xql_jax.learners.xql import InSample
from xql_jax.losses.regression import difference
from xql_jax.settings import Domain, traced
from xql_jax.types import Array, Numeric

ABOVE_HALF = Domain("above 0.5, below 1", lambda x: 0.5 < x < 1)


class ChiSquare(parts.ValueFit):
    """Fits V to a value below the maximum of Q, which also depends on how far Q lies above it.

    Over targets x the minimiser is the V at which the mean of 1 + (x - V) / 2 over the x above V (and of 0
    over the others) crosses (1 - lambda) / lambda. It is never above the largest x, and goes there with
    lambda to 1.
    """

    tradeoff: Numeric = traced(0.8, ABOVE_HALF, "Lambda: the larger, the nearer V is to the maximum of Q.")

    def loss_of(self, values: Array, targets: Array) -> Array:
        """lambda * f(y) + (1 - lambda) * V with y = Q - V, f32[B]; f(y) is y + y^2 / 4 above 0, else 0.

        Source: Sikchi et al. 2024, f-DVL: f is the conjugate of Pearson's chi^2, which itself goes on to y =
        -2; with it, V would lie up to 2 above the largest x.
        Differs: the authors' code (offline/critic.py, line 11) has max(y + y^2 / 4, 0) for f. This rises
        again for y < -4, so that actions far below V push it down with a growing force.
        """
        y = jnp.maximum(difference(values, targets), 0.0)
        return self.tradeoff * (y + y**2 / 4.0) + (1.0 - self.tradeoff) * values


class TotalVariation(parts.ValueFit):
    """Fits V to a quantile of Q: (2 lambda - 1) / lambda, 0.75 at lambda = 0.8."""

    tradeoff: Numeric = traced(0.8, ABOVE_HALF, "Lambda: the larger, the nearer V is to the maximum of Q.")

    def loss_of(self, values: Array, targets: Array) -> Array:
        """lambda * max(y, 0) + (1 - lambda) * V with y = Q - V, f32[B]; Sikchi et al. 2024, Table 1."""
        y = difference(values, targets)
        return self.tradeoff * jnp.maximum(y, 0.0) + (1.0 - self.tradeoff) * values


METHODS = {
    "dvl_chi2": Method(InSample, {"layer_norm": True}, value=ChiSquare),
    "dvl_tv": Method(InSample, {"layer_norm": True}, value=TotalVariation),
}
