"""Extreme Q-learning for deterministic dynamics: value iteration (Garg et al. 2023, Appendix C.1)."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from xql_jax.learners.advantage_regression import AdvantageRegression
from xql_jax.learners.gumbel_regression import GumbelRegression
from xql_jax.learners.train_state import TrainState
from xql_jax.losses.critic import td_target
from xql_jax.types import Array, Batch, Metrics, Params, PRNGKey


@flax.struct.dataclass
class ValueIterationState:
    step: Array  # i32[], updates done
    actor: TrainState
    value: TrainState
    target_value: Params


@flax.struct.dataclass
class ValueIteration(GumbelRegression, AdvantageRegression):
    """One network V, fitted to r + discount * V(s') by Gumbel regression; the policy's weights come from it.

    In deterministic dynamics r + discount * V(s') is Q(s, a), so that no other network is needed. Where
    dynamics are stochastic, V is over-optimistic: it takes the chance of a good s' for a choice.

    Source: Garg et al. 2023, Eq. 36 and 37; policy: Eq. 12; over-optimism: Section 3.5.
    Differs: V(s') is that of a target network, where the paper has the current one (`tau=1`).
    """

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> ValueIterationState:
        key_actor, key_value = jax.random.split(key)
        value = self.value_network.init(key_value, observations)
        return ValueIterationState(
            step=jnp.zeros((), jnp.int32),
            actor=self.init_actor(key_actor, observations, actions),
            value=TrainState.create(value),
            target_value=jax.tree.map(jnp.copy, value),  # a shared buffer could not be donated
        )

    def update(
        self, state: ValueIterationState, batch: Batch, key: PRNGKey
    ) -> tuple[ValueIterationState, Metrics]:
        """V, then pi, then the target."""
        next_v = self.v(state.target_value, batch.next_observations)
        q = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)  # Eq. 36
        value, value_info = self.fit_value(state.value, batch.observations, q)  # Eq. 37
        advantages = q - self.v(value.params, batch.observations)
        weights = self.policy_weight(advantages)
        actor, actor_info = self.update_actor(state.actor, batch, weights, state.step, key)
        target_value = optax.incremental_update(value.params, state.target_value, self.tau)
        state = ValueIterationState(step=state.step + 1, actor=actor, value=value, target_value=target_value)
        advantage_info = {"actor/advantage": advantages.mean(), "actor/weight": weights.mean()}
        return state, {**value_info, **actor_info, **advantage_info}
