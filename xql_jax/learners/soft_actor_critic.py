"""Base class of the soft actor-critics (SAC, X-SAC, CQL and RLPD)."""

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import min_q
from xql_jax.learners.maximum_entropy import MaximumEntropy
from xql_jax.learners.off_policy import OffPolicy, every
from xql_jax.learners.train_state import LearnerState, TrainState
from xql_jax.learners.value_fit import ValueFit
from xql_jax.losses.critic import td_target
from xql_jax.types import Array, Batch, Metrics, Params, PRNGKey

# From Table 5; what it does not list is from the authors' code.
DEFAULTS = {
    **dict.fromkeys(("actor_lr", "critic_lr", "value_lr", "entropy_coef_lr"), 1e-4),
    **dict.fromkeys(("actor_hidden_dims", "critic_hidden_dims", "value_hidden_dims"), (1024, 1024)),
    "actor_period": 1,
}


@flax.struct.dataclass
class SoftActorCritic(OffPolicy):
    """Soft actor-critic: Q, then V, then an entropy-regularised policy, and the target network.

    Subclasses define `value_targets`. Q is fitted to r + discount * V(s') with a target network V (Eq. 14),
    and V to `value_targets` at actions of the current policy.

    Source: Garg et al. 2023, Algorithm 1, Sec. 3.5 (Online RL), Appendix D.6; order, losses and the target
    network as in the authors' code.
    Differs: by default that code updates the actor at every second update, Table 5 at every one.
    """

    value: ValueFit = fields.part(ValueFit)
    policy: MaximumEntropy = fields.part(MaximumEntropy)

    def value_targets(self, q: Array, log_probs: Array, entropy_coef: Array) -> Array:
        """V(s)'s targets f32[B], from min Q(s, a) and log pi(a|s), both f32[B], with a ~ pi(.|s)."""
        raise NotImplementedError

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, key_value, *keys_critic = jax.random.split(key, 2 + self.critic.num_critics)
        value = self.init_value(key_value, observations)
        return LearnerState(
            step=jnp.zeros((), jnp.int32),
            policy=self.policy.init(key_policy, observations, actions),
            critic=self.critic.init(keys_critic, observations, actions, with_target=value is None),
            value=value,
        )

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q; then V and its target with the new Q; then pi with the new Q, and its coefficient."""
        key_next, key_actions, key_critic = jax.random.split(key, 3)
        step = state.step + 1
        next_v = self.next_values(state, batch.next_observations, key_next)
        targets = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)
        critic, critic_info = self.fit_critic(state, batch, targets, key_critic)
        state = state.replace(step=step, critic=critic)

        # V and pi use the same actions, sampled before pi's step. If both are updated every time, the
        # compiler notices and computes these actions and their Q only once.
        state, value_info = self.update_value(state, batch.observations, key_actions)
        policy = every(
            self.actor_period,
            step,
            lambda policy: self.policy.update(
                policy, critic, batch.observations, key_actions, self.max_grad_norm
            ),
            state.policy,
        )
        coefficient_info = {"entropy_coef": jnp.exp(policy.log_entropy_coef.params)}
        state = state.replace(policy=policy)
        return state, {**critic_info, **value_info, **policy.metrics, **coefficient_info}

    def init_value(self, key: PRNGKey, observations: Array) -> TrainState | None:
        return self.value.init(key, observations, with_target=True)

    def next_values(self, state: LearnerState, observations: Array, key: PRNGKey) -> Array:
        """V(s') in Q's targets, f32[B]."""
        return state.value.at(state.value.target, observations)

    def fit_critic(
        self, state: LearnerState, batch: Batch, targets: Array, key: PRNGKey
    ) -> tuple[TrainState, Metrics]:
        """One step of Q towards the targets f32[B]."""
        return self.critic.fit(state.critic, batch, targets, self.max_grad_norm)

    def update_value(
        self, state: LearnerState, observations: Array, key: PRNGKey
    ) -> tuple[LearnerState, Metrics]:
        """Fits V to the new Q, and moves V's target network."""
        targets = self.sampled_values(state, state.critic.params, observations, key)
        value, info = self.value.fit(state.value, observations, targets, self.max_grad_norm)
        return state.replace(value=self.follow(value, state.step)), info

    def sampled_values(self, state: LearnerState, critic: Params, observations: Array, key: PRNGKey) -> Array:
        """`value_targets` at one fresh action of the policy in each state, f32[B]."""
        actions, log_probs = state.policy(observations).sample_and_log_prob(key)
        q = min_q(state.critic, critic, observations, actions)
        return self.value_targets(q, log_probs, jnp.exp(state.policy.log_entropy_coef.params))
