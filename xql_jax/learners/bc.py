"""Behaviour cloning: maximum likelihood of the data's actions."""

import dataclasses

import flax.struct
import jax.numpy as jnp

from xql_jax.learners.policy_regression import PolicyRegression
from xql_jax.learners.train_state import TrainState
from xql_jax.types import Array, Batch, Metrics, PRNGKey


@flax.struct.dataclass
class BCState:
    step: Array  # i32[], updates done
    actor: TrainState


@flax.struct.dataclass
class BC(PolicyRegression):
    """Policy regression with every weight 1."""

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> BCState:
        return BCState(step=jnp.zeros((), jnp.int32), actor=self.init_actor(key, observations, actions))

    def update(self, state: BCState, batch: Batch, key: PRNGKey) -> tuple[BCState, Metrics]:
        weights = jnp.ones_like(batch.rewards)
        actor, metrics = self.update_actor(state.actor, batch, weights, state.step, key)
        return dataclasses.replace(state, step=state.step + 1, actor=actor), metrics
