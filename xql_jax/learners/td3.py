"""TD3 (Fujimoto et al. 2018)."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import Critic, init_actor_critic, min_q
from xql_jax.learners.deterministic_gradient import DeterministicGradient, DeterministicState
from xql_jax.learners.methods import Method
from xql_jax.learners.off_policy import OffPolicy, every
from xql_jax.learners.train_state import LearnerState, Model, TrainState
from xql_jax.losses.critic import td_target
from xql_jax.networks.mlp import Initializer
from xql_jax.networks.squashed_policies import sac_init, td3_init
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


@flax.struct.dataclass
class DelayedTwin(OffPolicy):
    """TD3: fits Q to the minimum of the target critics at the target actor's noisy action.

    By default every second update also updates the policy, which maximises the first Q, and the targets. With
    one critic it is what the paper calls TD3 - DQ.

    Source: Fujimoto et al. 2018, Algorithm 1; Garg et al. 2023, Appendix D.6, Table 5.
    """

    policy: DeterministicGradient = fields.part(DeterministicGradient)
    target_noise: Numeric = fields.traced(
        0.2,
        fields.NOT_NEGATIVE,
        "Standard deviation of the noise that is added to the action in Q's targets.",
    )
    target_noise_clip: Numeric = fields.traced(
        0.5, fields.NOT_NEGATIVE, "Bound on the noise that is added to the action in Q's targets."
    )
    exploration_noise: Numeric = fields.traced(
        0.1,  # Table 5 has 0.05 for Hopper
        fields.NOT_NEGATIVE,
        "Standard deviation of the noise that is added to the policy's actions while it collects data.",
    )
    kernel_init: Initializer = fields.internal(td3_init)  # of the policy and of Q

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        policy = dataclasses.replace(self.policy, actor_init=self.kernel_init)
        critic = dataclasses.replace(self.critic, critic_init=self.kernel_init)
        return init_actor_critic(policy, critic, key, observations, actions)

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q, then pi with the new Q, then the targets."""
        step = state.step + 1
        next_actions = self.target_actions(state.policy, batch.next_observations, key)
        next_q = self.next_values(state.critic, batch, next_actions)
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)
        critic, critic_info = self.critic.fit(state.critic, batch, targets, self.max_grad_norm)
        policy = every(
            self.actor_period,
            step,
            lambda policy: self.policy.update(policy, critic, batch, self.max_grad_norm),
            state.policy,
        )
        state = LearnerState(step, self.follow(policy, step), critic=self.follow(critic, step))
        return state, {**critic_info, **policy.metrics}

    def next_values(self, critic: TrainState, batch: Batch, next_actions: Array) -> Array:
        """The value of s' in Q's targets, f32[B], at the target actor's actions f32[B, A]."""
        return min_q(critic, critic.target, batch.next_observations, next_actions)

    def target_actions(self, policy: DeterministicState, observations: Array, key: PRNGKey) -> Array:
        """The target actor's actions with clipped Gaussian noise, f32[B, A] within [-1, 1]."""
        actions = policy.at(policy.target, observations)
        noise = self.target_noise * jax.random.normal(key, actions.shape)
        noise = jnp.clip(noise, -self.target_noise_clip, self.target_noise_clip)
        return jnp.clip(actions + noise, -1.0, 1.0)

    def act(self, actor: Model, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """The policy's actions; with Gaussian exploration noise, and clipped, if not `deterministic`."""
        actions = actor(observations)
        if deterministic:
            return actions
        noise = self.exploration_noise * jax.random.normal(key, actions.shape)
        return jnp.clip(actions + noise, -1.0, 1.0)


@flax.struct.dataclass
class OnlineTwin(DelayedTwin):
    """TD3 with a choice of the initial kernels; biases begin at 0 with either.

    orthogonal: gain 1, as in the authors' released runs of TD3 and X-TD3 (`ortho_init: true`).
    uniform: within 1 / sqrt(inputs), PyTorch's default, which Fujimoto et al. use. PyTorch draws the biases
    from the same range, too.
    """

    kernel_init: Initializer = fields.choice(
        "Initial kernels of TD3's networks. uniform: within 1 / sqrt(inputs); orthogonal: gain 1, as in the"
        " authors' released configs. Biases start at 0.",
        orthogonal=sac_init,
        uniform=td3_init,
    )


DEFAULTS = {"critic_lr": 1e-3}
TD3 = Method(OnlineTwin, DEFAULTS, critic=Critic)
TD3_DQ = Method(OnlineTwin, {**DEFAULTS, "num_critics": 1}, critic=Critic)  # without the double Q trick
