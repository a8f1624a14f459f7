"""X-SAC (Garg et al. 2023) and SAC (Haarnoja et al. 2018), with a value network (their baseline) or without.

Source: Haarnoja et al. 2018; Garg et al. 2023, Algorithm 1, Sec. 3.5 (Online RL), Appendix D.6; order, losses
and the target network as in the authors' code.
Differs: by default that code updates the actor at every second update, Table 5 at every one.
"""

import functools

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.actor_critic import Delayed, every, fit_multiplier
from xql_jax.learners.method import Method, rate_setting
from xql_jax.learners.parts import LearnerState, NetworkState, QFunction
from xql_jax.learners.xql import GumbelFit
from xql_jax.networks.policies import TanhGaussianPolicy, sac_init
from xql_jax.settings import EITHER, POSITIVE, part, static, traced
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


class EntropyState(NetworkState, kw_only=True):
    """The actor, and the entropy coefficient that is tuned with it."""

    log_entropy_coef: NetworkState  # its params are f32[]
    metrics: Metrics  # of the last update; 0 before the first

    @property
    def entropy_coef(self) -> Array:
        return jnp.exp(self.log_entropy_coef.params)

    def sampled_q(self, q_of: QFunction, observations: Array, key: PRNGKey) -> tuple[Array, Array]:
        """Q(s, a) and the cost entropy_coef * log pi(a|s), both f32[B], at one fresh action of the policy."""
        actions, log_probs = self(observations).sample_and_log_prob(key)
        return q_of(observations, actions), self.entropy_coef * log_probs


class MaximumEntropy(parts.PolicyPart):
    """Policy that maximises Q - entropy_coef * log pi; the coefficient is tuned to a target entropy."""

    actor_lr: Numeric = rate_setting(1e-4, "the policy")
    actor_hidden_dims: tuple[int, ...] = parts.policy_widths(1024, 1024)
    entropy_coef_lr: Numeric = traced(1e-4, POSITIVE, "Learning rate of the entropy coefficient.")
    initial_entropy_coef: Numeric = traced(
        0.1, POSITIVE, "Entropy coefficient at the start, reward units per nat.", of_start=True
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> EntropyState:
        network = TanhGaussianPolicy(actions.shape[-1], self.actor_hidden_dims)
        log_coef = jnp.log(jnp.asarray(self.initial_entropy_coef, jnp.float32))
        coefficient = NetworkState.create(None, log_coef)
        metrics = {"actor/loss": jnp.zeros(()), "actor/entropy": jnp.zeros(())}
        params = network.init(key, observations)
        return EntropyState.create(network, params, log_entropy_coef=coefficient, metrics=metrics)


class SoftActorCritic(Delayed):
    """Base of SAC, X-SAC, RLPD and CQL: what they share. Each method writes its own `update`."""

    policy: MaximumEntropy = part(MaximumEntropy)
    critic: parts.Critic = part(functools.partial(parts.Critic, critic_init=sac_init))

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, _, *keys_critic = jax.random.split(key, 2 + self.critic.num_critics)  # the second is V's
        policy = self.policy.init(key_policy, observations, actions)
        critic = self.critic.init(keys_critic, observations, actions)
        return LearnerState(jnp.zeros((), jnp.int32), policy, critic=critic)

    def improve(
        self, state: LearnerState, q_of: QFunction, observations: Array, key: PRNGKey, share: Numeric = 1.0
    ) -> tuple[EntropyState, Metrics]:
        """The policy and metrics, after a step of it and one of its coefficient if they are due.

        The target entropy is `share` times SAC's, which is -1 nat per action dimension.
        """

        def improved(policy: EntropyState) -> EntropyState:
            def loss(params):
                actions, log_probs = policy.apply(params, observations).sample_and_log_prob(key)
                actor_loss = (policy.entropy_coef * log_probs - q_of(observations, actions)).mean()
                return actor_loss, {"actor/loss": actor_loss, "actor/entropy": -log_probs.mean()}

            updated, info = self.policy.minimize(policy, loss, self.policy.actor_lr)
            missing = share * -policy.network.action_dim - info["actor/entropy"]
            rate = self.policy.entropy_coef_lr
            coefficient = fit_multiplier(self.policy, policy.log_entropy_coef, missing, rate)
            return updated.replace(log_entropy_coef=coefficient, metrics=info)

        policy = every(self.actor_period, state.step + 1, improved, state.policy)
        return policy, {**policy.metrics, "entropy_coef": policy.entropy_coef}


class WithValue(SoftActorCritic):
    """Fits V to the policy, and Q to r + discount * V(s'); V has a target network instead of Q."""

    value: parts.ValueFit = part(functools.partial(parts.ValueFit, value_init=sac_init))

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        state = super().init(key, observations, actions)
        key_value = jax.random.split(key, 2 + self.critic.num_critics)[1]
        value = self.value.init(key_value, observations).with_target()
        return state.replace(value=value, critic=state.critic.replace(target=None))

    def value_targets(self, q: Array, cost: Array) -> Array:
        return q - cost

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q (Eq. 14); V with the new Q, and its target; pi with the new Q, and its coefficient."""
        _, key_actions, _ = jax.random.split(key, 3)
        step = state.step + 1
        next_v = state.value.at_target()(batch.next_observations)
        critic, critic_info = self.fit_critic(state, batch, next_v)

        # V and pi use the same actions, sampled before pi's step. If both are updated every time, the
        # compiler notices and computes these actions and their Q only once.
        q, cost = state.policy.sampled_q(critic.min_q, batch.observations, key_actions)
        targets, v = self.value_targets(q, cost), state.value(batch.observations)
        value, value_info = self.value.fit(state.value, batch.observations, targets)
        value, scale_info = self.value.follow(value, targets, v)
        policy, info = self.improve(state, critic.min_q, batch.observations, key_actions)
        state = LearnerState(step, policy, self.follow(value, step), critic)
        return state, {**critic_info, **value_info, **scale_info, **info}


class SAC(WithValue):
    """Fits V by least squares to min Q - entropy_coef * log pi, the soft value of the policy.

    Without V, the usual form of SAC, Q's targets use that soft value directly, at one sampled action in s'
    and with target networks of the critics.
    """

    uses_value_network: bool = static(
        True, EITHER, "Learn Q's targets with a network for V; if false, with the policy's actions."
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        if self.uses_value_network:
            return super().init(key, observations, actions)
        return SoftActorCritic.init(self, key, observations, actions)

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        if self.uses_value_network:
            return super().update(state, batch, key)
        key_next, key_actions, _ = jax.random.split(key, 3)
        step = state.step + 1
        target = state.critic.at_target()
        next_q, next_cost = state.policy.sampled_q(target.min_q, batch.next_observations, key_next)
        critic, critic_info = self.fit_critic(state, batch, next_q - next_cost)

        policy, info = self.improve(state, critic.min_q, batch.observations, key_actions)
        state = LearnerState(step, policy, critic=self.follow(critic, step))
        return state, {**critic_info, **info}


class XSAC(WithValue):
    """SAC with V fitted to beta * log E[exp(min Q / beta)] over the policy's actions (Eq. 11); no log pi."""

    value: parts.ValueFit = part(functools.partial(GumbelFit, value_init=sac_init))

    def value_targets(self, q: Array, cost: Array) -> Array:
        return q


# From Table 5; what it does not list is from the authors' code.
TABLE_5 = {
    "actor_lr": 1e-4, "critic_lr": 1e-4, "value_lr": 1e-4, "entropy_coef_lr": 1e-4, "actor_period": 1,
    "actor_hidden_dims": (1024, 1024), "critic_hidden_dims": (1024, 1024), "value_hidden_dims": (1024, 1024),
}  # fmt: skip
X_TABLE_5 = {**TABLE_5, "clip": 8.0}  # of z = (Q - V) / beta, Appendix D.6
WARM_UP = {"warmup_steps": 1_000}
METHODS = {
    "sac": Method(SAC, TABLE_5, settings=WARM_UP),
    "xsac": Method(XSAC, X_TABLE_5, settings=WARM_UP),
}
