"""ReBRAC (Tarasov et al. 2023): TD3+BC whose critic is penalised for leaving the data, too.

Source: Tarasov et al. 2023, "Revisiting the Minimalist Approach to Offline Reinforcement Learning", Section
3: penalties of the policy and of the critic that are weighed apart, layer norm in the critic, deeper
networks, larger batches.
Hyperparameters: DT6A/ReBRAC, src/algorithms/rebrac.py lines 33 to 57. The authors tune the two coefficients
by dataset (configs/rebrac/); these are a suite's medians, of an even number the upper one. They have batches
of 256 outside locomotion: --batch_size=256. Point mazes: corl-team/CORL, configs/offline/rebrac/maze2d/.
Differs: that code bounds the target from below by the data's return (line 147); neither the paper nor CORL's
rebrac.py (line 504) does, nor this. There layer norm follows the ReLU, last layers begin near 0 and biases at
0.1, and AntMaze's rewards are 0 and 100; here layer norm precedes the ReLU, the rest is as in the project's
TD3, and AntMaze's rewards are -1 and 0.
"""

import functools
from typing import ClassVar

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import Critic, min_q, next_actions_of
from xql_jax.learners.deterministic_gradient import DeterministicGradient
from xql_jax.learners.methods import Method, RunDefaults
from xql_jax.learners.td3 import DelayedTwin
from xql_jax.learners.td3_bc import normalized_mean
from xql_jax.learners.train_state import TrainState
from xql_jax.networks.mlp import Value
from xql_jax.networks.squashed_policies import td3_init
from xql_jax.types import Array, Batch, Numeric, SarsaBatch


def squared_distance(actions: Array, others: Array) -> Array:
    """f32[B], over the components of actions f32[B, A]."""
    return jnp.square(actions - others).sum(-1)


@flax.struct.dataclass
class PenalizedGradient(DeterministicGradient):
    """pi climbs the least Q in units of its mean size, and stays near the data's actions."""

    actor_bc_coef: Numeric = fields.traced(0.01, fields.NOT_NEGATIVE)  # beta_1

    def q_of(self, critic, observations, actions):
        return min_q(critic, critic.params, observations, actions)

    def loss_of(self, q, actions, batch):
        return self.actor_bc_coef * squared_distance(actions, batch.actions).mean() - normalized_mean(q)


@flax.struct.dataclass
class NormalizedCritic(Critic):
    """With layer norm in every hidden layer."""

    critic_layer_norm: bool = fields.static(True, fields.EITHER)

    def network(self) -> nn.Module:
        return Value(self.critic_hidden_dims, self.critic_layer_norm, self.critic_init)


@flax.struct.dataclass
class PenalizedTwin(DelayedTwin):
    """TD3 whose Q(s', a') is lowered by the squared distance of a' from what the data's policy did in s'."""

    critic_bc_coef: Numeric = fields.traced(0.01, fields.NOT_NEGATIVE)  # beta_2, reward units

    batch_type: ClassVar[type] = SarsaBatch

    def next_values(self, critic: TrainState, batch: Batch, next_actions: Array) -> Array:
        penalty = self.critic_bc_coef * squared_distance(next_actions, next_actions_of(batch))
        return super().next_values(critic, batch, next_actions) - penalty


HIDDEN = (256, 256, 256)
ReBRAC = Method(
    PenalizedTwin,
    {"actor_lr": 1e-3, "critic_lr": 1e-3, "actor_hidden_dims": HIDDEN, "critic_hidden_dims": HIDDEN},
    by_suite={
        "locomotion": {"actor_bc_coef": 0.01, "critic_bc_coef": 0.01},
        "antmaze": {
            "actor_lr": 3e-4,
            "critic_lr": 5e-5,
            "discount": 0.999,
            "actor_bc_coef": 0.002,
            "critic_bc_coef": 0.001,
        },
        "adroit": {"actor_lr": 3e-4, "critic_lr": 3e-4, "actor_bc_coef": 0.05, "critic_bc_coef": 0.1},
        "pointmaze": {"actor_bc_coef": 0.003, "critic_bc_coef": 0.001},
    },
    run=RunDefaults(batch_size=1024, scale_rewards=False),
    policy=PenalizedGradient,
    critic=functools.partial(NormalizedCritic, critic_init=td3_init),
)
