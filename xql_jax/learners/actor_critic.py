"""Base classes of actor-critics: first state, Q's targets, and updates that are due every few steps."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.method import discount_setting, tau_setting
from xql_jax.learners.parts import CriticState, LearnerState, NetworkState, S
from xql_jax.losses.regression import td_target
from xql_jax.settings import AT_LEAST_ONE, part, static
from xql_jax.types import AnyBatch, Array, Metrics, Numeric, PRNGKey

T = TypeVar("T")


class ActorCritic(parts.PolicyLearner):
    """Base of learners with a policy and critics. Each method writes its own `update`."""

    policy: parts.PolicyPart = part(parts.PolicyObjective)
    critic: parts.Critic = part(parts.Critic)
    discount: Numeric = discount_setting()
    tau: Numeric = tau_setting()

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, *keys_critic = jax.random.split(key, 1 + self.critic.num_critics)
        policy = self.policy.init(key_policy, observations, actions)
        critic = self.critic.init(keys_critic, observations, actions)
        return LearnerState(jnp.zeros((), jnp.int32), policy, critic=critic)

    def fit_critic(
        self, state: LearnerState, batch: AnyBatch, next_values: Array
    ) -> tuple[CriticState, Metrics]:
        """One step of Q(s, a) towards r + discount * V(s'), where V(s') is next_values f32[B]."""
        targets = td_target(batch.rewards, batch.masks, next_values, discount=self.discount)
        return self.critic.fit(state.critic, batch, targets)


class Delayed(ActorCritic):
    """An actor-critic that updates its policy and its targets once per period, counting updates from 1."""

    actor_period: int = static(2, AT_LEAST_ONE, "Updates of Q per update of the policy.")
    target_period: int = static(2, AT_LEAST_ONE, "Updates of Q per update of the targets.")

    def follow(self, network: S, step: Array) -> S:
        """The network's state after update `step`, with its target moved if that is due."""
        return every(self.target_period, step, lambda state: state.polyak_update(self.tau), network)

    def bellman_errors(self, state: LearnerState, batch: AnyBatch) -> Array:
        """r + discount * mask * Q(s', pi(s')) - Q(s, a), f32[B], by the first critic, without entropy.

        Source: Garg et al. 2023, Appendix D.2. Section 3.1 has a minus before the discount, a misprint.
        """
        first = state.critic.replace(params=state.critic.params[0])
        next_actions = self.act(self.actor(state), batch.next_observations, jax.random.key(0), True)
        next_q = first(batch.next_observations, next_actions)
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)
        return targets - first(batch.observations, batch.actions)


def every(period: int, step: Array, update: Callable[[T], T], state: T) -> T:
    """`update(state)` if `step` is a multiple of the period, else `state`; under `vmap` both are computed."""
    if period == 1:
        return update(state)
    return jax.lax.cond(step % period == 0, update, lambda unchanged: unchanged, state)


def fit_multiplier(
    part: parts.Trained, log_multiplier: NetworkState, excess: Array, rate: Numeric
) -> NetworkState:
    """One step of the logarithm of a Lagrange multiplier, which rises while `excess` is positive."""
    return part.minimize(log_multiplier, lambda x: (-jnp.exp(x) * excess, {}), rate)[0]


def at_each(observations: Array, actions: Array) -> Array:
    """Repeats observations f32[B, O] for N actions per state, f32[N, B, A]; returns f32[N, B, O]."""
    return jnp.broadcast_to(observations, (len(actions), *observations.shape))


def chosen(actions: Array, index: Array) -> Array:
    """Selects in each state one of the actions f32[N, B, A] by its index i32[B]; returns f32[B, A]."""
    return jnp.take_along_axis(actions, index[None, :, None], axis=0)[0]
