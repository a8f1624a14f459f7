"""Exponential Q-learning, EQL (Xu et al. 2023, "Offline RL with No OOD Actions", ICLR).

Hyperparameters: ryanxhr/IVR, run_mujoco.sh, run_antmaze.sh, run_kitchen.sh (alpha), actor.py line 19
(advantages times 10, which is not in the paper) and 21 (weights up to 100), configs/*.py (layer norm).
Differs: that code adds up the squared errors of the two Q; here they are averaged. It gives umaze-diverse an
alpha of its own (5). It sets a dropout for V on AntMaze, but never switches it on.
"""

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.parts import TrainState, ValueFit, ValueTargets
from xql_jax.losses.regression import check_pairs
from xql_jax.types import Array, Batch, Numeric

LARGEST = 5.0  # of y / alpha; beyond it the exponential continues as its tangent


def exponential_loss(values: Array, targets: Array, *, alpha: Numeric) -> Array:
    """EQL's loss of each example, f32[B], times exp(-m): exp(y / alpha) + V / alpha, y = Q - V.

    m is the largest y / alpha of the batch, at least -1, held constant. The gradient is XQL's with beta =
    alpha, so over targets x the minimiser is alpha * log E[exp(x / alpha)] as well.

    Source: Xu et al. 2023, Eq. 16; values, targets f32[B] (constants) and alpha in reward units.
    Differs: beyond y / alpha = 5 the authors' code (critic.py, line 24) clips the exponential but not the
    linear term, so its gradient pushes V *down* if Q is far above V. Here the exponential continues as its
    tangent: V is pushed up, by a bounded force.
    """
    check_pairs(values, targets)
    z = (jax.lax.stop_gradient(targets) - values) / alpha
    held = jnp.minimum(z, LARGEST)
    m = jax.lax.stop_gradient(jnp.maximum(held.max(), -1.0))
    return jnp.exp(held - m) * (1.0 + z - held) + jnp.exp(-m) * values / alpha


@flax.struct.dataclass
class Exponential(ValueFit):
    """Fits V to alpha * log E[exp(Q / alpha)]; the policy sees advantages in units of alpha."""

    alpha: Numeric = fields.traced(2.0, fields.POSITIVE)  # reward units

    def loss_of(self, values: Array, targets: Array) -> Array:
        return exponential_loss(values, targets, alpha=self.alpha)

    def read(self, value: TrainState, batch: Batch, discount: Numeric) -> ValueTargets:
        return super().read(value, batch, discount)._replace(scale=self.alpha)


EQL = fields.Method(
    InSample,
    {"layer_norm": True, "awr_temperature": 10.0},
    by_suite={
        "locomotion": {"alpha": 2.0},
        "antmaze": {"alpha": 0.5, **dict.fromkeys(("actor_lr", "value_lr", "critic_lr"), 2e-4)},
        "kitchen": {"alpha": 2.0},
        "pointmaze": {"alpha": 0.1},  # chosen here, on seeds 100 and 101
    },
    value=Exponential,
)
METHODS = {"eql": EQL}
