"""Sparse Q-learning, SQL (Xu et al. 2023, "Offline RL with No OOD Actions", ICLR).

Hyperparameters: ryanxhr/IVR, run_mujoco.sh, run_antmaze.sh, run_kitchen.sh (alpha), configs/*.py (layer
norm).
Differs: that code adds up the squared errors of the two Q; here they are averaged. It gives umaze-diverse an
alpha of its own (3). It sets a dropout for V on AntMaze, but never switches it on.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.parts import PolicyObjective, ValueFit
from xql_jax.losses.regression import check_pairs
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


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
class PositiveAdvantage(PolicyObjective):
    """Regression weighted by max(Q - V, 0): actions worse than V are not imitated.

    Differs: this weight is that of the authors' code (actor.py, line 17); the paper's is max(1 + (Q - V) / (2
    alpha), 0).
    """

    max_weight: Numeric = fields.traced(100.0, fields.POSITIVE_OR_OFF)  # inf: no bound

    def update(self, actor: Any, estimates: Any, batch: Batch, key: PRNGKey) -> tuple[Any, Metrics]:
        advantages = (estimates.q - estimates.v) / estimates.scale
        weights = jax.lax.stop_gradient(jnp.clip(advantages, 0.0, self.max_weight))
        actor, info = self.regress(actor, weights, batch, key)
        return actor, {**info, "actor/advantage": advantages.mean(), "actor/weight": weights.mean()}


SQL = fields.Method(
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
)
METHODS = {"sql": SQL}
