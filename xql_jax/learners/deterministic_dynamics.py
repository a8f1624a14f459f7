"""Extreme Q-learning for deterministic dynamics: value and Q iteration (Garg et al. 2023, Appendix C.1).

In stochastic dynamics both are over-optimistic (Section 3.5): they treat a lucky s' as if the agent had
chosen it.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.method import Method, discount_setting, tau_setting
from xql_jax.learners.parts import LearnerState
from xql_jax.learners.xql import GumbelFit, InSample
from xql_jax.losses.regression import td_target
from xql_jax.settings import ABOVE_ZERO, part, traced
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey, SarsaBatch


class ValueIteration(parts.PolicyLearner):
    """Fits one network V to r + discount * V(s') by Gumbel regression; it also gives the policy's weights.

    In deterministic dynamics r + discount * V(s') is Q(s, a), so no other network is needed.

    Source: Garg et al. 2023, Eq. 36 and 37; policy: Eq. 12.
    Differs: V(s') comes from a target network; the paper uses the current network (`tau=1`).
    """

    value: parts.ValueFit = part(GumbelFit)
    policy: parts.PolicyObjective = part(parts.ForwardKL)
    discount: Numeric = discount_setting()
    tau: Numeric = tau_setting()

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, key_value = jax.random.split(key)
        policy = self.policy.init(key_policy, observations, actions)
        value = self.value.init(key_value, observations).with_target()
        return LearnerState(jnp.zeros((), jnp.int32), policy, value)

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates V, then pi, then the target."""
        next_v = state.value.at_target()(batch.next_observations)
        q = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)  # Eq. 36
        value, value_info = self.value.fit(state.value, batch.observations, q)  # Eq. 37
        v = value(batch.observations)
        estimates = parts.Estimates(q, v)
        value, scale_info = self.value.follow(value, q, v)
        policy, policy_info = self.policy.update(state.policy, estimates, batch, key)
        state = LearnerState(state.step + 1, policy, value.polyak_update(self.tau))
        return state, {**value_info, **scale_info, **policy_info}


class QIteration(InSample):
    """Fits Q to r + discount * Q(s', a'), a' from the data, by Gumbel regression of scale discount * beta.

    In deterministic dynamics this alone solves the soft-Bellman equation, so V(s') = L^beta[Q(s', .)] is not
    needed. V is fitted as in XQL, but only the policy's weights use it.

    Source: Garg et al. 2023, Eq. 41 and 42, Lemma C.1.
    Differs: Q(s', a') is the minimum of the target critics, as everywhere in the authors' code.
    """

    value: GumbelFit = part(GumbelFit)
    critic: parts.Critic = part(parts.Critic)
    discount: Numeric = traced(0.99, ABOVE_ZERO)  # not 0, as it scales beta

    batch_type: ClassVar[type] = SarsaBatch

    def update(  # type: ignore[override]  # its `batch_type` is another
        self, state: LearnerState, batch: SarsaBatch, key: PRNGKey
    ) -> tuple[LearnerState, Metrics]:
        """Updates V and pi as XQL; Q, which XQL would fit to V(s'), is fitted to Q(s', a')."""
        after, info = super().update(state, batch, key)
        next_q = state.critic.at_target().min_q(batch.next_observations, batch.next_actions)
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)  # Eq. 41
        beta = self.value.beta_of(state.value.held)
        scaled = self.value.replace(beta=self.discount * beta)  # Eq. 42

        def loss(q: Array, targets: Array) -> Array:
            return scaled.loss_of(q, targets) / self.critic.num_critics

        critic, critic_info = self.critic.fit(state.critic, batch, targets, loss)
        return after.replace(critic=critic.polyak_update(self.tau)), {**info, **critic_info}


METHODS = {
    "value_iteration": Method(ValueIteration, like="xql"),
    "q_iteration": Method(QIteration, like="xql"),
}
