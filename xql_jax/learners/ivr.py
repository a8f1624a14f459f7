"""Sparse and exponential Q-learning, SQL and EQL (Xu et al. 2023, "Offline RL with No OOD Actions", ICLR).

Hyperparameters: ryanxhr/IVR, run_mujoco.sh, run_antmaze.sh, run_kitchen.sh (alpha), configs/*.py (layer
norm); for EQL actor.py line 19 (advantages times 10, which is not in the paper) and 21 (weights up to 100).
Differs: that code adds up the squared errors of the two Q; here they are averaged. It gives umaze-diverse an
alpha of its own (SQL 3, EQL 5). It sets a dropout for V on AntMaze, but never switches it on.
"""

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.method import Method
from xql_jax.learners.parts import NetworkState
from xql_jax.learners.xql import InSample
from xql_jax.losses.regression import difference
from xql_jax.settings import POSITIVE, traced
from xql_jax.types import AnyBatch, Array, Numeric

LARGEST_EXPONENT = 5.0  # of EQL's y / alpha; beyond it the exponential continues as its tangent


class Sparse(parts.ValueFit):
    """SQL's fit of V: a soft maximum of Q that ignores actions far below it.

    Over targets x the minimiser solves E max(1 + (x - V) / (2 alpha), 0) = 1: the mean as alpha grows, the
    maximum as it goes to 0. Without an exponential, the slope grows with y as in least squares.
    """

    alpha: Numeric = traced(
        1.0, POSITIVE, "Scale of V's soft maximum of Q, reward units; if small, the maximum."
    )

    def loss_of(self, values: Array, targets: Array) -> Array:
        """max(1 + y / (2 alpha), 0)^2 + V / alpha with y = Q - V, f32[B]; Xu et al. 2023, Eq. 12."""
        weight = jnp.maximum(1.0 + difference(values, targets) / (2.0 * self.alpha), 0.0)
        return weight**2 + values / self.alpha


class PositiveAdvantage(parts.WeightedCloning):
    """Regression weighted by max(Q - V, 0): actions worse than V are not imitated.

    Differs: this weight is that of the authors' code (actor.py, line 17); the paper's is max(1 + (Q - V) / (2
    alpha), 0).
    """

    def own_weights(self, advantages: Array) -> tuple[Array, Numeric]:
        return jnp.clip(advantages, 0.0, self.max_weight), 0.0


class Exponential(parts.ValueFit):
    """EQL's fit of V, to alpha * log E[exp(Q / alpha)]; the policy sees advantages in units of alpha."""

    alpha: Numeric = traced(
        2.0, POSITIVE, "Scale of V's soft maximum of Q, reward units; if small, the maximum."
    )

    def loss_of(self, values: Array, targets: Array) -> Array:
        """(exp(y / alpha) + V / alpha) * exp(-m) with y = Q - V, f32[B].

        m is the largest y / alpha of the batch, at least -1, held constant. The gradient is XQL's with beta =
        alpha, so the minimiser is the same as well.

        Source: Xu et al. 2023, Eq. 16.
        Differs: beyond y / alpha = 5 the authors' code (critic.py, line 24) clips the exponential but not the
        linear term, so its gradient pushes V *down* if Q is far above V. Here the exponential continues as
        its tangent: V is pushed up, by a bounded force.
        """
        z = difference(values, targets) / self.alpha
        clipped = jnp.minimum(z, LARGEST_EXPONENT)
        m = jax.lax.stop_gradient(jnp.maximum(clipped.max(), -1.0))
        return jnp.exp(clipped - m) * (1.0 + z - clipped) + jnp.exp(-m) * values / self.alpha

    def v_and_q_targets(
        self, value: NetworkState, batch: AnyBatch, discount: Numeric
    ) -> tuple[Array, Array, Numeric]:
        v, targets, _ = super().v_and_q_targets(value, batch, discount)
        return v, targets, self.alpha


METHODS = {
    "sql": Method(InSample, {"layer_norm": True}, value=Sparse, policy=PositiveAdvantage),
    "eql": Method(InSample, {"layer_norm": True, "awr_temperature": 10.0}, value=Exponential),
}
