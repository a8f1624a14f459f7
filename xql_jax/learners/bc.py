"""Behaviour cloning: maximum likelihood of the data's actions, or only of its best trajectories (10%BC).

Source: 10%BC is from Chen et al. 2021 (kzl/decision-transformer, gym/experiment.py lines 103 to 116). It
keeps the best trajectories that together hold 10% of the steps. Hyperparameters are IQL's.
Differs: their MLP (mlp_bc.py lines 14 to 34: the squared error, the last 20 states, dropout 0.1, AdamW) sees
a history; here the policy is IQL's Gaussian of the present state, fitted by likelihood, as for the other
methods. They normalise observations and have batches of 64; here as they are, and 256.
"""

import jax.numpy as jnp

from xql_jax.learners.method import Method
from xql_jax.learners.parts import LearnerState, PolicyLearner, PolicyObjective
from xql_jax.settings import part
from xql_jax.types import Array, Batch, Metrics, PRNGKey


class BC(PolicyLearner):
    """Maximum-likelihood regression of the policy onto the data's actions, all with weight 1."""

    policy: PolicyObjective = part(PolicyObjective)

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        return LearnerState(jnp.zeros((), jnp.int32), self.policy.init(key, observations, actions))

    def update(self, state: LearnerState, batch: Batch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        policy, info = self.policy.clone(state.policy, batch, key)
        return LearnerState(state.step + 1, policy), info


METHODS = {"bc": Method(BC), "bc10": Method(BC, settings={"top_returns": 0.1})}
