"""Sparse Q-learning, SQL (Xu et al. 2023, "Offline RL with No OOD Actions", ICLR).

Hyperparameters: ryanxhr/IVR, run_mujoco.sh, run_antmaze.sh, run_kitchen.sh (alpha), configs/*.py (layer
norm).
Differs: that code gives umaze-diverse an alpha of its own (3). It sets a dropout for V on AntMaze, but never
switches it on.
"""

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import TemporalDifference
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.methods import Method
from xql_jax.learners.policy_objectives import WeightedRegression
from xql_jax.learners.value_fit import ValueFit
from xql_jax.losses.critic import check_pairs
from xql_jax.types import Array, Numeric


def sparse_loss(values: Array, targets: Array, *, alpha: Numeric) -> Array:
    """SQL's loss of each example, f32[B]: max(1 + y / (2 alpha), 0)^2 + V / alpha, y = Q - V.

    Over targets x the minimiser solves E max(1 + (x - V) / (2 alpha), 0) = 1: the mean as alpha grows, the
    maximum as it goes to 0. Without an exponential, the slope grows with y as in least squares.

    Source: Xu et al. 2023, Eq. 12; values, targets f32[B] (constants) and alpha in reward units.
    """
    check_pairs(values, targets)
    weight = jnp.maximum(1.0 + (jax.lax.stop_gradient(targets) - values) / (2.0 * alpha), 0.0)
    return weight**2 + values / alpha


@flax.struct.dataclass
class Sparse(ValueFit):
    """Fits V to a soft maximum of Q that ignores actions far below it."""

    alpha: Numeric = fields.traced(1.0, fields.POSITIVE)  # reward units

    def loss_of(self, values: Array, targets: Array) -> Array:
        return sparse_loss(values, targets, alpha=self.alpha)


@flax.struct.dataclass
class PositiveAdvantage(WeightedRegression):
    """Regression weighted by max(Q - V, 0): actions worse than V are not imitated.

    Differs: this weight is that of the authors' code (actor.py, line 17); the paper's is max(1 + (Q - V) / (2
    alpha), 0).
    """

    def weights(self, advantages: Array) -> Array:
        return jax.lax.stop_gradient(jnp.clip(advantages, 0.0, self.max_weight))


SQL = Method(
    InSample,
    {"layer_norm": True},
    by_suite={
        "locomotion": {"alpha": 1.0},
        "antmaze": {"alpha": 0.1, **dict.fromkeys(("actor_lr", "value_lr", "critic_lr"), 2e-4)},
        "kitchen": {"alpha": 0.5},
        "pointmaze": {"alpha": 0.05},  # chosen here, on seeds 100 and 101
    },
    value=Sparse,
    policy=PositiveAdvantage,
    critic=TemporalDifference,
)
METHODS = {"sql": SQL}
