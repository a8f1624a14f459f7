"""Fitted-Q evaluation (FQE) of a policy on the data, and statistics of the learner's own V and Q.

Source: Le et al. 2019, "Batch Policy Learning under Constraints", Algorithm 3 (FQE). Paine et al. 2020,
"Hyperparameter Selection for Offline Reinforcement Learning", rank policies by this Q at initial states.
Differs: Le et al. solve a whole regression for each target; here each update is a step of Adam on a minibatch
towards a target network that follows at the rate tau. And Q has an offset, which follows the mean Bellman
residual: a constant error is the slowest, for in each iteration only 1 - discount of it goes (Bertsekas 1995,
"Generic Rank-One Corrections for Value Iteration"). If there is a fixed point, it is the same.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from xql_jax.learners.method import Part, discount_setting, tau_setting
from xql_jax.learners.parts import Critic, CriticState, LearnerState
from xql_jax.losses.regression import td_target
from xql_jax.networks.mlp import iql_init
from xql_jax.settings import internal, part
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey

OFFSET_STEPS = 3.0  # its steps are 1, and after this / (1 - discount) updates they fall with their number


def flat_init(key: PRNGKey, shape: Sequence[int], *dtype: Any) -> Array:
    """IQL's kernels, but the last layer's is 0, so that Q begins as a constant.

    Else what of the first function is left at the end, a thousandth of a value, is counted at every step.
    """
    return jnp.zeros(shape, *dtype) if shape[-1] == 1 else iql_init(key, shape, *dtype)


class OffsetCriticState(CriticState, kw_only=True):
    """Networks Q, to which a number is added."""

    offset: Array  # f32[]

    def each(self, params: Params, observations: Array, actions: Array) -> Sequence[Array]:
        return [q + self.offset for q in super().each(params, observations, actions)]


class FittedQEvaluation(Part):
    """Fits Q(s, a) to r + discount * mask * Q_target(s', pi(s')) for a fixed deterministic policy pi.

    pi is part of the state and never changes, so that a population can evaluate many policies at once. `init`
    puts an untrained policy there, to be replaced by a result of `evaluated.actor`.
    """

    evaluated: Any = internal(None, leaf=True)  # the learner whose policy it is
    rows: Any = internal(None, leaf=True)  # bool[N], those of the data that it learns from
    within: Any = internal(None, leaf=True)  # f32[2, A], the least and the most of its actions; None: any
    critic: Critic = part(functools.partial(Critic, num_critics=1, critic_init=flat_init))
    discount: Numeric = discount_setting()
    tau: Numeric = tau_setting()
    batch_type: ClassVar[type] = Batch

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, *keys_critic = jax.random.split(key, 1 + self.critic.num_critics)
        critic = self.critic.init(keys_critic, observations, actions)
        return LearnerState(
            step=jnp.zeros((), jnp.int32),
            policy=self.evaluated.actor(self.evaluated.init(key_policy, observations, actions)),
            critic=OffsetCriticState(
                critic.network, critic.params, critic.optimizer_state, critic.target, offset=jnp.zeros(())
            ),
        )

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        next_actions = self.act(self.actor(state), batch.next_observations, jax.random.key(0), True)
        pairs = (batch.observations, batch.next_observations), (batch.actions, next_actions)
        q, next_q = jnp.split(state.critic.at_target().min_q(*map(jnp.concatenate, pairs)), 2)
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)
        critic: Any
        critic, info = self.critic.fit(state.critic, batch, targets)
        # By this share of itself a constant error is less in the next iteration: the rest is added up.
        share, step = (1.0 - self.discount * batch.masks).mean(), state.step + 1
        rate = jnp.minimum(1.0, OFFSET_STEPS / (share * step))
        critic = critic.replace(offset=critic.offset + rate * (targets - q).mean())
        return state.replace(step=step, critic=critic.polyak_update(self.tau)), info

    def actor(self, state: LearnerState) -> Params:
        return state.policy

    def act(self, actor: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        actions = self.evaluated.act(actor, observations, key, deterministic)
        return actions if self.within is None else jnp.clip(actions, *self.within)


def value_statistics(learner: Any, state: Any, initial: Array, batch: Batch) -> dict[str, Array]:
    """Mean values over initial states f32[K, O] and over the transitions of a batch, reward units.

    `initial_v`: V(s0). `initial_q`: Q(s0, pi(s0)) with the deterministic policy. `advantage`: Q(s, a) - V(s)
    at the data's actions. `td_error`: the root mean square of r + discount * mask * V(s') - Q(s, a); without
    V, Q(s', pi(s')) takes the place of V(s'). Only those that the method can compute are returned. Q is the
    minimum of the critics. V and Q's targets are the method's own (`ValueFit.v_and_q_targets`).
    """
    metrics: dict[str, Array] = {}
    value, critic = (getattr(state, part, None) for part in ("value", "critic"))
    act = functools.partial(learner.act, learner.actor(state), key=jax.random.key(0), deterministic=True)
    if value is not None:
        metrics["initial_v"] = value(initial).mean()
    if critic is None:
        return metrics
    q = critic.min_q(batch.observations, batch.actions)
    metrics["initial_q"] = critic.min_q(initial, act(initial)).mean()
    if value is None:
        next_q = critic.min_q(batch.next_observations, act(batch.next_observations))
        targets = td_target(batch.rewards, batch.masks, next_q, discount=learner.discount)
    else:
        v, targets, _ = learner.value.v_and_q_targets(value, batch, learner.discount)
        metrics["advantage"] = (q - v).mean()
    return {**metrics, "td_error": jnp.sqrt(jnp.square(targets - q).mean())}
