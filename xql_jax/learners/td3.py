"""TD3 (Fujimoto et al. 2018)."""

import functools

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
from xql_jax.networks.squashed_policies import td3_init
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


@flax.struct.dataclass
class DelayedTwin(OffPolicy):
    """Q to the least of the target critics at the target actor's noisy action; every second time the policy
    to the first Q, and the targets.

    With one critic it is what the paper calls TD3 - DQ. Kernels begin as PyTorch's do, which that code leaves
    as they are; biases at 0, where PyTorch draws them, too.

    Source: Fujimoto et al. 2018, Algorithm 1; Garg et al. 2023, Appendix D.6, Table 5.
    """

    policy: DeterministicGradient = fields.part(DeterministicGradient)
    target_noise: Numeric = fields.traced(0.2, fields.NOT_NEGATIVE)  # std
    target_noise_clip: Numeric = fields.traced(0.5, fields.NOT_NEGATIVE)
    exploration_noise: Numeric = fields.traced(0.1, fields.NOT_NEGATIVE)  # std; Table 5 has 0.05 for Hopper

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        return init_actor_critic(self.policy, self.critic, key, observations, actions)

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Q, then pi by the new Q, then the targets."""
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
        """What Q learns of s', f32[B], from the target actor's actions f32[B, A] there."""
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


DEFAULTS = {"critic_lr": 1e-3}
TD3 = Method(DelayedTwin, DEFAULTS, critic=functools.partial(Critic, critic_init=td3_init))
TD3_DQ = Method(  # without the double Q trick
    DelayedTwin, {**DEFAULTS, "num_critics": 1}, critic=functools.partial(Critic, critic_init=td3_init)
)
