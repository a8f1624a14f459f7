"""ReBRAC (Tarasov et al. 2023): TD3+BC with a penalty for leaving the data in the critic, too.

Source: Tarasov et al. 2023, "Revisiting the Minimalist Approach to Offline Reinforcement Learning", Section
3: separate weights for the policy's and the critic's penalty, layer norm in the critic, deeper networks,
larger batches.
Hyperparameters: DT6A/ReBRAC, src/algorithms/rebrac.py lines 33 to 57. The authors tune the two coefficients
per dataset (configs/rebrac/); here each suite has their median (the upper of two middle values). Outside
locomotion they use batches of 256: pass --batch_size=256. Point mazes: corl-team/CORL,
configs/offline/rebrac/maze2d/.
Differs: that code, the authors' later one, bounds the target from below by the data's return (line 147).
Their first (tinkoff-ai/ReBRAC), the paper, CORL's rebrac.py (line 504) and this file do not. In their code
layer norm follows the ReLU, and the policy's target follows the policy from before its step. Here layer norm
precedes the ReLU, and the target is as in the project's TD3. They update the policy at updates 1, 3, 5, ...,
here at 2, 4, 6, ...
"""

import functools
from typing import ClassVar

import jax.numpy as jnp

from xql_jax.learners.method import Method
from xql_jax.learners.parts import Critic, CriticState, LearnerState
from xql_jax.learners.td3 import DelayedDeterministic
from xql_jax.learners.td3_bc import normalized_mean
from xql_jax.networks.policies import td3_init
from xql_jax.settings import NOT_NEGATIVE, part, traced
from xql_jax.types import AnyBatch, Array, Metrics, Numeric, PRNGKey, SarsaBatch


def squared_distance(actions: Array, others: Array) -> Array:
    """Squared distance f32[B], summed over the components of actions f32[B, A]."""
    return jnp.square(actions - others).sum(-1)


class ReBRAC(DelayedDeterministic):
    """TD3 whose policy stays near the data's actions, and whose Q counts the distance from them as a cost.

    The policy maximises min Q in units of its mean size.
    """

    critic: Critic = part(functools.partial(Critic, critic_init=td3_init, critic_layer_norm=True))
    actor_bc_coef: Numeric = traced(
        0.01, NOT_NEGATIVE, "Weight of the policy's squared distance from the data: ReBRAC's beta_1."
    )
    critic_bc_coef: Numeric = traced(
        0.01, NOT_NEGATIVE, "Penalty in Q's targets per squared distance, reward units: ReBRAC's beta_2."
    )

    batch_type: ClassVar[type] = SarsaBatch

    def fit_q(  # type: ignore[override]  # its `batch_type` is another
        self, state: LearnerState, batch: SarsaBatch, key: PRNGKey
    ) -> tuple[CriticState, Metrics]:
        next_actions = self.target_actions(state.policy, batch.next_observations, key)
        penalty = self.critic_bc_coef * squared_distance(next_actions, batch.next_actions)
        next_q = state.critic.at_target().min_q(batch.next_observations, next_actions) - penalty
        return self.fit_critic(state, batch, next_q)

    def actor_loss(self, critic: CriticState, batch: AnyBatch, actions: Array) -> Array:
        q = critic.min_q(batch.observations, actions)
        return self.actor_bc_coef * squared_distance(actions, batch.actions).mean() - normalized_mean(q)


HIDDEN = (256, 256, 256)
METHODS = {
    "rebrac": Method(
        ReBRAC,
        {"actor_lr": 1e-3, "critic_lr": 1e-3, "actor_hidden_dims": HIDDEN, "critic_hidden_dims": HIDDEN},
        settings={"batch_size": 1024, "scale_rewards": False},
    )
}
