"""Algorithm 1 of Garg et al. 2023: V, pi and Q from dataset actions only (XQL, IQL and their kin)."""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import Critic, TemporalDifference, min_q
from xql_jax.learners.policy_objectives import Estimates, ForwardKL, PolicyLearner, PolicyObjective
from xql_jax.learners.train_state import LearnerState, TrainState
from xql_jax.learners.value_fit import ValueFit
from xql_jax.losses.critic import td_target
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


@flax.struct.dataclass
class Smoothing(fields.Part):
    """Actions that the value loss uses in addition to the data's own."""

    uniform_actions: int = fields.static(
        0, fields.NOT_NEGATIVE, "Uniformly random actions that are added to V's loss, per action of the data."
    )
    action_noise: float = fields.static(
        0.0,
        fields.NOT_NEGATIVE,
        "Standard deviation of the noise that is added to the data's actions in V's loss.",
    )

    def __call__(self, observations: Array, actions: Array, key: PRNGKey) -> tuple[Array, Array]:
        """Returns states and actions: the data's actions with clipped Gaussian noise, then uniform ones."""
        key_noise, key_uniform = jax.random.split(key)
        noise = self.action_noise * jax.random.normal(key_noise, actions.shape)
        noisy = jnp.clip(actions + jnp.clip(noise, -0.5, 0.5), -1.0, 1.0)  # 0.5: the authors' code
        shape = (self.uniform_actions * actions.shape[0], actions.shape[1])
        uniform = jax.random.uniform(key_uniform, shape, minval=-1.0, maxval=1.0)
        return jnp.tile(observations, (1 + self.uniform_actions, 1)), jnp.concatenate([noisy, uniform])


@flax.struct.dataclass
class InSample(PolicyLearner):
    """Algorithm 1: updates V, then pi, then Q, then Q's target network.

    This is the order of the authors' code; the paper prints Q, V, pi.
    """

    value: ValueFit = fields.part(ValueFit)
    policy: PolicyObjective = fields.part(ForwardKL)
    critic: Critic = fields.part(TemporalDifference)
    smoothing: Smoothing = fields.part(Smoothing)
    discount: Numeric = fields.traced(0.99, fields.UNIT_INTERVAL)
    tau: Numeric = fields.traced(0.005, fields.ABOVE_ZERO)  # Polyak rate of the target, per update

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, key_value, *keys_critic = jax.random.split(key, 2 + self.critic.num_critics)
        return LearnerState(
            step=jnp.zeros((), jnp.int32),
            value=self.value.init(key_value, observations),
            policy=self.policy.init(key_policy, observations, actions),
            critic=self.critic.init(keys_critic, observations, actions),
        )

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """One iteration of Algorithm 1."""
        key_value, key_policy = jax.random.split(key)
        q_of = functools.partial(min_q, state.critic, state.critic.target)
        q = targets = q_of(batch.observations, batch.actions)  # f32[B]
        observations = batch.observations
        if self.smoothing.uniform_actions or self.smoothing.action_noise:
            observations, actions = self.smoothing(observations, batch.actions, key_value)
            targets = q_of(observations, actions)
        value, value_info = self.value.fit(state.value, observations, targets, self.max_grad_norm)

        v, next_v, rewards, scale = self.value.read(value, batch)
        policy, policy_info = self.policy.update(
            state.policy, Estimates(q, v, scale, q_of), batch, key_policy, self.max_grad_norm
        )
        critic, critic_info = self.fit_critic(state.critic, next_v, batch._replace(rewards=rewards))
        value = self.value.adapted(value, jnp.sqrt(critic_info["critic/loss"]))
        state = LearnerState(state.step + 1, policy, value, critic.followed(self.tau))
        return state, {**value_info, **policy_info, **critic_info}

    def fit_critic(self, critic: TrainState, next_v: Array, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step on Q; next_v f32[B] is the new V at s'."""
        targets = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)
        return self.critic.fit(critic, batch, targets, self.max_grad_norm)
