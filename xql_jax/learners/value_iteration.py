"""Extreme Q-learning for deterministic dynamics: value iteration (Garg et al. 2023, Appendix C.1)."""

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.parts import (
    Estimates,
    ForwardKL,
    LearnerState,
    PolicyLearner,
    PolicyObjective,
    ValueFit,
)
from xql_jax.learners.value_fits.xql import Gumbel
from xql_jax.losses.regression import td_target
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


@flax.struct.dataclass
class ValueIteration(PolicyLearner):
    """Fits one network V to r + discount * V(s') by Gumbel regression; it also gives the policy's weights.

    In deterministic dynamics r + discount * V(s') is Q(s, a), so no other network is needed. In stochastic
    dynamics V is over-optimistic: it treats a lucky s' as if the agent had chosen it.

    Source: Garg et al. 2023, Eq. 36 and 37; policy: Eq. 12; over-optimism: Section 3.5.
    Differs: V(s') comes from a target network; the paper uses the current network (`tau=1`).
    """

    value: ValueFit = fields.part(Gumbel)
    policy: PolicyObjective = fields.part(ForwardKL)
    discount: Numeric = fields.traced(0.99, fields.UNIT_INTERVAL)
    tau: Numeric = fields.traced(0.005, fields.ABOVE_ZERO)  # Polyak rate of the target network, per update

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, key_value = jax.random.split(key)
        return LearnerState(
            step=jnp.zeros((), jnp.int32),
            value=self.value.init(key_value, observations, with_target=True),
            policy=self.policy.init(key_policy, observations, actions),
        )

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates V, then pi, then the target."""
        next_v = state.value.at(state.value.target, batch.next_observations)
        q = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)  # Eq. 36
        value, value_info = self.value.fit(state.value, batch.observations, q)  # Eq. 37
        estimates = Estimates(q, value(batch.observations))
        policy, policy_info = self.policy.update(state.policy, estimates, batch, key)
        state = LearnerState(state.step + 1, policy, value.polyak_update(self.tau))
        return state, {**value_info, **policy_info}


METHODS = {"value_iteration": fields.Method(ValueIteration)}
