"""Extreme Q-learning for deterministic dynamics: Q iteration (Garg et al. 2023, Appendix C.1)."""

from typing import ClassVar

import flax.struct

from xql_jax.learners import fields
from xql_jax.learners.critics import Critic, min_q, next_actions_of
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.methods import Method
from xql_jax.learners.policy_objectives import ForwardKL
from xql_jax.learners.train_state import TrainState
from xql_jax.learners.value_fits.gumbel import Gumbel
from xql_jax.losses.critic import td_target
from xql_jax.types import Array, Batch, Metrics, Numeric, SarsaBatch


@flax.struct.dataclass
class ExtremeQIteration(InSample):
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

    def fit_critic(self, critic: TrainState, next_v: Array, batch: Batch) -> tuple[TrainState, Metrics]:
        next_q = min_q(critic, critic.target, batch.next_observations, next_actions_of(batch))
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)  # Eq. 41

        def loss_of(q: Array, targets: Array) -> Array:  # Eq. 42
            return self.value.regression(q, targets, scale=self.discount) / self.critic.num_critics

        return self.critic.fit(critic, batch, targets, self.max_grad_norm, loss_of)


QIteration = Method(ExtremeQIteration, value=Gumbel, policy=ForwardKL, critic=Critic)
