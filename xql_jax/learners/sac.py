"""X-SAC (Garg et al. 2023) and SAC (Haarnoja et al. 2018), with a value network (their baseline) or without.

Source: Haarnoja et al. 2018; Garg et al. 2023, Algorithm 1, Sec. 3.5 (Online RL), Appendix D.6; order, losses
and the target network as in the authors' code.
Differs: by default that code updates the actor at every second update, Table 5 at every one.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields, parts
from xql_jax.learners.actor_critic import Delayed, every
from xql_jax.learners.xql import GumbelFit
from xql_jax.networks.policies import TanhGaussianPolicy, sac_init
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey, State


class EntropyState(parts.TrainState):
    """The actor's train state, with the train state of the entropy coefficient."""

    log_entropy_coef: Any = None  # a train state whose params are f32[]
    metrics: Any = None  # of the last update; 0 before the first

    @property
    def entropy_coef(self) -> Array:
        return jnp.exp(self.log_entropy_coef.params)


@flax.struct.dataclass
class MaximumEntropy(parts.Trained):
    """Policy that maximises Q - entropy_coef * log pi; the coefficient is tuned to a target entropy."""

    actor_lr: Numeric = fields.traced(1e-4, fields.POSITIVE)
    actor_hidden_dims: tuple[int, ...] = fields.widths(1024, 1024)
    entropy_coef_lr: Numeric = fields.traced(1e-4, fields.POSITIVE)
    initial_entropy_coef: Numeric = fields.traced(0.1, fields.POSITIVE)  # reward units per nat

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> EntropyState:
        network = TanhGaussianPolicy(actions.shape[-1], self.actor_hidden_dims)
        log_coef = jnp.log(jnp.asarray(self.initial_entropy_coef, jnp.float32))
        return EntropyState.create(
            network,
            network.init(key, observations),
            log_entropy_coef=parts.TrainState.create(None, log_coef),
            metrics=dict.fromkeys(("actor/loss", "actor/entropy"), jnp.zeros(())),
        )

    def update(
        self, policy: Any, q_of: Callable, observations: Array, key: PRNGKey, target_share: Numeric
    ) -> EntropyState:
        """One step of the policy, and one of the coefficient with the policy's entropy before that step.

        The target entropy is `target_share` times SAC's, which is -1 nat per action dimension.
        """

        def actor_loss(params):
            actions, log_probs = policy.network.apply(params, observations).sample_and_log_prob(key)
            loss = (policy.entropy_coef * log_probs - q_of(observations, actions)).mean()
            return loss, {"actor/loss": loss, "actor/entropy": -log_probs.mean()}

        def coefficient_loss(log_coef):
            return jnp.exp(log_coef) * (info["actor/entropy"] - target_entropy), {}

        target_entropy = target_share * -policy.network.action_dim
        updated, info = self.minimize(policy, actor_loss, self.actor_lr)
        coefficient, _ = self.minimize(policy.log_entropy_coef, coefficient_loss, self.entropy_coef_lr)
        return updated.replace(log_entropy_coef=coefficient, metrics=info)


@flax.struct.dataclass
class SoftActorCritic(Delayed):
    """Fields and first state of SAC and its kin. Each method writes its own `update`."""

    policy: MaximumEntropy = fields.part(MaximumEntropy)
    critic: parts.Critic = fields.part(functools.partial(parts.Critic, critic_init=sac_init))

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> State:
        key_policy, _, *keys_critic = jax.random.split(key, 2 + self.critic.num_critics)  # the second is V's
        policy = self.policy.init(key_policy, observations, actions)
        critic = self.critic.init(keys_critic, observations, actions)
        return parts.LearnerState(jnp.zeros((), jnp.int32), policy, critic=critic)

    def improve(
        self,
        policy: Any,
        step: Array,
        q_of: Callable,
        observations: Array,
        key: PRNGKey,
        share: Numeric = 1.0,
    ) -> tuple[EntropyState, Metrics]:
        """The policy after update `step`: it and its coefficient take a step if that is due, and metrics."""

        def update(policy: EntropyState) -> EntropyState:
            return self.policy.update(policy, q_of, observations, key, share)

        policy = every(self.actor_period, step, update, policy)
        return policy, {**policy.metrics, "entropy_coef": policy.entropy_coef}


def sampled_q(
    policy: Any, critic: Any, params: Params, observations: Array, key: PRNGKey
) -> tuple[Array, Array]:
    """min Q(s, a) and entropy_coef * log pi(a|s), both f32[B], at one fresh action of the policy."""
    actions, log_probs = policy(observations).sample_and_log_prob(key)
    return parts.min_q(critic, params, observations, actions), policy.entropy_coef * log_probs


@flax.struct.dataclass
class WithValue(SoftActorCritic):
    """Fits V to the policy, and Q to r + discount * V(s'); V has a target network instead of Q."""

    value: parts.ValueFit = fields.part(functools.partial(parts.ValueFit, value_init=sac_init))

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> State:
        state = super().init(key, observations, actions)
        key_value = jax.random.split(key, 2 + self.critic.num_critics)[1]
        value = self.value.init(key_value, observations).with_target()
        return state.replace(value=value, critic=state.critic.replace(target=None))

    def value_targets(self, q: Array, cost: Array) -> Array:
        """What V is fitted to, f32[B], of `sampled_q`'s two results."""
        return q - cost

    def update(self, state: State, batch: Batch, key: PRNGKey) -> tuple[State, Metrics]:
        """Updates Q (Eq. 14); V with the new Q, and its target; pi with the new Q, and its coefficient."""
        _, key_actions, _ = jax.random.split(key, 3)
        step = state.step + 1
        next_v = state.value.network.apply(state.value.target, batch.next_observations)
        critic, critic_info = self.fit_critic(state, batch, next_v)

        # V and pi use the same actions, sampled before pi's step. If both are updated every time, the
        # compiler notices and computes these actions and their Q only once.
        q, cost = sampled_q(state.policy, critic, critic.params, batch.observations, key_actions)
        value, value_info = self.value.fit(state.value, batch.observations, self.value_targets(q, cost))
        q_of = functools.partial(parts.min_q, critic, critic.params)
        policy, info = self.improve(state.policy, step, q_of, batch.observations, key_actions)
        state = parts.LearnerState(step, policy, self.follow(value, step), critic)
        return state, {**critic_info, **value_info, **info}


@flax.struct.dataclass
class SAC(WithValue):
    """Fits V by least squares to min Q - entropy_coef * log pi, the soft value of the policy.

    Without V, the usual form of SAC, Q's targets use that soft value directly, at one sampled action in s'
    and with target networks of the critics.
    """

    uses_value_network: bool = fields.static(True, fields.EITHER)

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> State:
        owner = WithValue if self.uses_value_network else SoftActorCritic
        return owner.init(self, key, observations, actions)

    def update(self, state: State, batch: Batch, key: PRNGKey) -> tuple[State, Metrics]:
        if self.uses_value_network:
            return super().update(state, batch, key)
        key_next, key_actions, _ = jax.random.split(key, 3)
        step, critic = state.step + 1, state.critic
        q, cost = sampled_q(state.policy, critic, critic.target, batch.next_observations, key_next)
        critic, critic_info = self.fit_critic(state, batch, q - cost)
        q_of = functools.partial(parts.min_q, critic, critic.params)
        policy, info = self.improve(state.policy, step, q_of, batch.observations, key_actions)
        return parts.LearnerState(step, policy, critic=self.follow(critic, step)), {**critic_info, **info}


@flax.struct.dataclass
class XSAC(WithValue):
    """SAC with V fitted to beta * log E[exp(min Q / beta)] over the policy's actions (Eq. 11); no log pi."""

    value: parts.ValueFit = fields.part(functools.partial(GumbelFit, value_init=sac_init))

    def value_targets(self, q: Array, cost: Array) -> Array:
        return q


# From Table 5; what it does not list is from the authors' code.
TABLE_5 = {
    **dict.fromkeys(("actor_lr", "critic_lr", "value_lr", "entropy_coef_lr"), 1e-4),
    **dict.fromkeys(("actor_hidden_dims", "critic_hidden_dims", "value_hidden_dims"), (1024, 1024)),
    "actor_period": 1,
}
X_TABLE_5 = {**TABLE_5, "clip": 8.0}  # of z = (Q - V) / beta, Appendix D.6
WARM_UP = {"warmup_steps": 1_000}
METHODS = {
    "sac": fields.Method(SAC, TABLE_5, settings=WARM_UP),
    "xsac": fields.Method(XSAC, X_TABLE_5, settings=WARM_UP),
}
