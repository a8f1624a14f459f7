"""Base class of the online learners: updates that are due every few steps, and Bellman errors."""

from collections.abc import Callable
from typing import Any, TypeVar

import flax.struct
import jax

from xql_jax.learners import fields
from xql_jax.learners.critics import Critic
from xql_jax.learners.policy_objectives import PolicyLearner
from xql_jax.learners.train_state import TrainState
from xql_jax.losses.critic import td_target
from xql_jax.types import Array, Batch, Numeric, State

Held = TypeVar("Held")


@flax.struct.dataclass
class OffPolicy(PolicyLearner):
    """Learner that updates its policy and its targets once per period.

    They are updated at the multiples of `actor_period` and of `target_period`, counting updates from 1.
    """

    critic: Critic = fields.part(Critic)
    discount: Numeric = fields.traced(0.99, fields.UNIT_INTERVAL)
    tau: Numeric = fields.traced(0.005, fields.ABOVE_ZERO)  # Polyak rate, per update of the targets
    actor_period: int = fields.static(2, fields.AT_LEAST_ONE, "Updates of Q per update of the policy.")
    target_period: int = fields.static(
        2, fields.AT_LEAST_ONE, "Updates of Q per update of the target networks."
    )

    def follow(self, state: TrainState, step: Array) -> TrainState:
        """The train state after update `step`, with its target moved if that is due."""
        return every(self.target_period, step, lambda held: held.followed(self.tau), state)

    def bellman_errors(self, state: State, batch: Batch) -> Array:
        """Returns r + discount * mask * Q(s', pi(s')) - Q(s, a), f32[B], reward units.

        It uses the first critic and the deterministic policy, but no target network and no entropy.

        Source: Garg et al. 2023, Appendix D.2. Section 3.1 has a minus before the discount, a misprint.
        """
        first = state.critic.params[0]
        next_actions = self.act(self.actor(state), batch.next_observations, jax.random.key(0), True)
        next_q = state.critic.at(first, batch.next_observations, next_actions)
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)
        return targets - state.critic.at(first, batch.observations, batch.actions)


def every(period: int, step: Array, update: Callable[[Held], Held], held: Held) -> Held:
    """Returns `update(held)` if `step` is a multiple of the period, otherwise `held`.

    Only one of the two is computed; under `vmap` over steps both are, and one is selected.
    """
    if period == 1:
        return update(held)
    return jax.lax.cond(step % period == 0, update, _unchanged, held)


def _unchanged(held: Any) -> Any:
    return held
