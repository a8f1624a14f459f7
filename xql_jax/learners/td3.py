"""TD3 (Fujimoto et al. 2018)."""

import dataclasses

import flax.struct

from xql_jax.learners import fields
from xql_jax.learners.deterministic import DelayedDeterministic
from xql_jax.learners.parts import LearnerState, min_q
from xql_jax.losses.regression import td_target
from xql_jax.networks.mlp import Initializer
from xql_jax.networks.policies import sac_init, td3_init
from xql_jax.types import Array, Batch, Metrics, PRNGKey

DEFAULTS = {"critic_lr": 1e-3}


@flax.struct.dataclass
class TD3(DelayedDeterministic):
    """Fits Q to the minimum of the target critics at the target actor's noisy action.

    By default every second update also updates the policy, which maximises the first Q, and the targets. With
    one critic it is what the paper calls TD3 - DQ.

    Source: Fujimoto et al. 2018, Algorithm 1; Garg et al. 2023, Appendix D.6, Table 5.
    The initial kernels are orthogonal in the authors' released runs of TD3 and X-TD3 (`ortho_init: true`),
    uniform in Fujimoto et al.'s. PyTorch draws the biases from the same range, too; here they begin at 0.
    """

    kernel_init: Initializer = fields.choice(
        "Initial kernels of TD3's networks. uniform: within 1 / sqrt(inputs); orthogonal: gain 1, as in the"
        " authors' released configs. Biases start at 0.",
        orthogonal=sac_init,
        uniform=td3_init,
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        policy = dataclasses.replace(self.policy, actor_init=self.kernel_init)
        critic = dataclasses.replace(self.critic, critic_init=self.kernel_init)
        initialized = dataclasses.replace(self, policy=policy, critic=critic)
        return DelayedDeterministic.init(initialized, key, observations, actions)

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q, then pi with the new Q, then the targets."""
        next_actions = self.target_actions(state.policy, batch.next_observations, key)
        next_q = min_q(state.critic, state.critic.target, batch.next_observations, next_actions)
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)
        critic, critic_info = self.critic.fit(state.critic, batch, targets)

        def actor_loss(actions: Array) -> Array:
            return -critic.at(critic.params[0], batch.observations, actions).mean()

        state, actor_info = self.improve(state, critic, batch.observations, actor_loss)
        return state, {**critic_info, **actor_info}


METHODS = {
    "td3": fields.Method(TD3, DEFAULTS),
    "td3_dq": fields.Method(TD3, {**DEFAULTS, "num_critics": 1}),  # without the double Q trick
}
