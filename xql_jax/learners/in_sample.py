"""Algorithm 1 of Garg et al. 2023: V, pi and Q from dataset actions only (XQL, IQL and their kin)."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.parts import (
    Critic,
    Estimates,
    ForwardKL,
    LearnerState,
    PolicyLearner,
    PolicyObjective,
    ValueFit,
    min_q,
)
from xql_jax.losses.regression import huber_loss, mse_loss
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


@flax.struct.dataclass
class TemporalDifference(Critic):
    """Critics fitted to r + discount * V(s') (Garg et al. 2023, Eq. 14).

    Squared errors are averaged over the networks; Huber losses are summed, as in the authors' offline code.
    Near 0 the Huber loss is half the squared error, so with two networks both give the same loss there.
    """

    critic_loss: Callable[[Array, Array], Array] = fields.choice(
        "Loss of Q: mse (the squared error, averaged over the critics) or huber (summed over them).",
        mse=mse_loss,
        huber=huber_loss,
    )

    def loss_of(self, values: Array, targets: Array) -> Array:
        loss = self.critic_loss(values, targets)
        return loss if self.critic_loss is huber_loss else loss / self.num_critics


@flax.struct.dataclass
class InSample(PolicyLearner):
    """Algorithm 1 in three parts: how V is fitted, how the policy is extracted, how Q is fitted.

    V's loss may use actions beside the data's own: these with noise, and uniformly random ones.
    """

    value: ValueFit = fields.part(ValueFit)
    policy: PolicyObjective = fields.part(ForwardKL)
    critic: Critic = fields.part(TemporalDifference)
    discount: Numeric = fields.traced(0.99, fields.UNIT_INTERVAL)
    tau: Numeric = fields.traced(0.005, fields.ABOVE_ZERO)  # Polyak rate of the target, per update
    uniform_actions: int = fields.static(
        0, fields.NOT_NEGATIVE, "Uniformly random actions that are added to V's loss, per action of the data."
    )
    action_noise: float = fields.static(
        0.0, fields.NOT_NEGATIVE, "Standard deviation of the noise on the data's actions in V's loss."
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, key_value, *keys_critic = jax.random.split(key, 2 + self.critic.num_critics)
        return LearnerState(
            step=jnp.zeros((), jnp.int32),
            value=self.value.init(key_value, observations),
            policy=self.policy.init(key_policy, observations, actions),
            critic=self.critic.init(keys_critic, observations, actions),
        )

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates V, then pi, then Q and its target: the authors' order; the paper prints Q, V, pi."""
        key_value, key_policy = jax.random.split(key)
        value, q, value_info = self.fit_value(state, batch, key_value)
        v, targets, scale = self.value.read(value, batch, self.discount)
        q_of = functools.partial(min_q, state.critic, state.critic.target)
        policy, policy_info = self.policy.update(
            state.policy, Estimates(q, v, scale, q_of), batch, key_policy
        )
        critic, critic_info = self.critic.fit(state.critic, batch, targets)
        state = LearnerState(state.step + 1, policy, value, critic.polyak_update(self.tau))
        return state, {**value_info, **policy_info, **critic_info}

    def fit_value(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[Any, Array, Metrics]:
        """V after its step, Q(s, a) f32[B] of the data's actions by the target critics, and metrics."""
        q_of = functools.partial(min_q, state.critic, state.critic.target)
        q = targets = q_of(batch.observations, batch.actions)
        observations = batch.observations
        if self.uniform_actions or self.action_noise:
            observations, actions = smoothed(batch, key, self.uniform_actions, self.action_noise)
            targets = q_of(observations, actions)
        value, info = self.value.fit(state.value, observations, targets)
        return value, q, info


def smoothed(batch: Batch, key: PRNGKey, uniform_actions: int, action_noise: float) -> tuple[Array, Array]:
    """States and actions: the data's actions with clipped Gaussian noise, then uniform ones."""
    key_noise, key_uniform = jax.random.split(key)
    noise = action_noise * jax.random.normal(key_noise, batch.actions.shape)
    noisy = jnp.clip(batch.actions + jnp.clip(noise, -0.5, 0.5), -1.0, 1.0)  # 0.5: the authors' code
    shape = (uniform_actions * batch.actions.shape[0], batch.actions.shape[1])
    uniform = jax.random.uniform(key_uniform, shape, minval=-1.0, maxval=1.0)
    return jnp.tile(batch.observations, (1 + uniform_actions, 1)), jnp.concatenate([noisy, uniform])
