"""Extreme Q-learning for deterministic dynamics: Q iteration (Garg et al. 2023, Appendix C.1)."""

from typing import ClassVar

import flax.struct

from xql_jax.learners.gumbel_regression import GumbelRegression
from xql_jax.learners.in_sample import ValuePolicyCritic
from xql_jax.learners.train_state import TrainState
from xql_jax.losses.critic import td_target
from xql_jax.types import Array, Batch, Metrics, Params, SarsaBatch


@flax.struct.dataclass
class QIteration(GumbelRegression, ValuePolicyCritic):
    """Q is fitted to r + discount * Q(s', a') by Gumbel regression of scale discount * beta, a' the data's.

    In deterministic dynamics that alone solves the soft-Bellman equation: V(s') = L^beta[Q(s', .)] need not
    be known. V is fitted as in XQL, but only the policy's weights use it. Where dynamics are stochastic, Q
    is over-optimistic: it takes the chance of a good s' for a choice.

    Source: Garg et al. 2023, Eq. 41 and 42, Lemma C.1; over-optimism: Section 3.5.
    Differs: Q(s', a') is the least of the target critics, as everywhere in the authors' code.
    """

    uses_next_actions: ClassVar[bool] = True

    def update_critic(
        self, critic: TrainState, target_critic: Params, next_v: Array, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        if not isinstance(batch, SarsaBatch):
            raise ValueError("batch must be a SarsaBatch: Q iteration learns from next_actions, too")
        next_q = self.min_q(target_critic, batch.next_observations, batch.next_actions)
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)  # Eq. 41
        scale = self.discount * self.beta
        return self.fit_critic(critic, batch, targets, lambda q, t: self.gumbel_loss(q, t, scale))  # Eq. 42
