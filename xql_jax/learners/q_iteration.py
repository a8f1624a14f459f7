"""Extreme Q-learning for deterministic dynamics: Q iteration (Garg et al. 2023, Appendix C.1)."""

import functools
from typing import ClassVar

import flax.struct
import jax

from xql_jax.learners import fields
from xql_jax.learners.actor_critic import next_actions_of
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.parts import Critic, Estimates, LearnerState, min_q
from xql_jax.learners.value_fits.xql import Gumbel
from xql_jax.losses.regression import td_target
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey, SarsaBatch


@flax.struct.dataclass
class QIteration(InSample):
    """Fits Q to r + discount * Q(s', a'), a' from the data, by Gumbel regression of scale discount * beta.

    In deterministic dynamics this alone solves the soft-Bellman equation, so V(s') = L^beta[Q(s', .)] is not
    needed. V is fitted as in XQL, but only the policy's weights use it. In stochastic dynamics Q is
    over-optimistic: it treats a lucky s' as if the agent had chosen it.

    Source: Garg et al. 2023, Eq. 41 and 42, Lemma C.1; over-optimism: Section 3.5.
    Differs: Q(s', a') is the minimum of the target critics, as everywhere in the authors' code.
    """

    value: Gumbel = fields.part(Gumbel)
    critic: Critic = fields.part(Critic)
    discount: Numeric = fields.traced(0.99, fields.ABOVE_ZERO)  # not 0, as it scales beta

    batch_type: ClassVar[type] = SarsaBatch

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates V, then pi, then Q and its target."""
        key_value, key_policy = jax.random.split(key)
        q_of = functools.partial(min_q, state.critic, state.critic.target)
        value, q, value_info = self.fit_value(state, batch, key_value)
        v, _, _ = self.value.read(value, batch, self.discount)
        estimates = Estimates(q, v, q_of=q_of)
        policy, policy_info = self.policy.update(state.policy, estimates, batch, key_policy)
        next_q = q_of(batch.next_observations, next_actions_of(batch))
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)  # Eq. 41

        def loss_of(q: Array, targets: Array) -> Array:  # Eq. 42
            return self.value.regression(q, targets, scale=self.discount) / self.critic.num_critics

        critic, critic_info = self.critic.fit(state.critic, batch, targets, loss_of)
        state = LearnerState(state.step + 1, policy, value, critic.polyak_update(self.tau))
        return state, {**value_info, **policy_info, **critic_info}


METHODS = {"q_iteration": fields.Method(QIteration)}
