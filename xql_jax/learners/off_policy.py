"""What the online learners share: critics, updates that are due every few steps, acting."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import flax.struct
import jax
import optax

from xql_jax.learners.critic_ensemble import CriticEnsemble
from xql_jax.learners.train_state import static
from xql_jax.losses.critic import td_target
from xql_jax.types import Array, Batch, Numeric, Params, PRNGKey, State

Held = TypeVar("Held")


@flax.struct.dataclass
class OffPolicy(CriticEnsemble):
    """A state has a field `actor`, and acting needs its parameters alone.

    What has a period is updated at its every multiple, counting updates from 1.
    """

    uses_next_actions: ClassVar[bool] = False
    actor_lr: Numeric = 1e-3
    critic_lr: Numeric = 1e-3
    discount: Numeric = 0.99
    tau: Numeric = 0.005  # Polyak rate, per update of the targets
    actor_period: int = static(2)  # updates
    target_period: int = static(2)  # updates

    def follow(self, target: Params, params: Params, step: Array) -> Params:
        """The target network after update `step`: moved towards `params` where that is due."""
        return every(
            self.target_period, step, lambda old: optax.incremental_update(params, old, self.tau), target
        )

    def actor_params(self, state: State) -> Params:
        """All of the state that `act_with` needs."""
        return state.actor.params

    def act(self, state: State, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """Actions f32[B, A] within [-1, 1] for observations f32[B, O]."""
        return self.act_with(self.actor_params(state), observations, key, deterministic)

    def act_with(self, params: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """`act` from the actor's parameters."""
        raise NotImplementedError

    def bellman_errors(self, state: State, batch: Batch) -> Array:
        """r + discount * Q(s', pi(s')) - Q(s, a), f32[B], reward units: first critic, deterministic policy,
        no target network and no entropy.

        Source: Garg et al. 2023, Appendix D.2 (Section 3.1 prints the second sign the other way).
        """
        critic = state.critic.params[0]
        next_actions = self.act(state, batch.next_observations, jax.random.key(0), deterministic=True)
        next_q = self.q(critic, batch.next_observations, next_actions)
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)
        return targets - self.q(critic, batch.observations, batch.actions)


def every(period: int, step: Array, update: Callable[[Held], Held], held: Held) -> Held:
    """`update(held)` where `step` is a multiple of the period, otherwise `held`.

    Only one of the two is run; under `vmap` over steps both are, and one is selected.
    """
    if period == 1:
        return update(held)
    return jax.lax.cond(step % period == 0, update, _unchanged, held)


def _unchanged(held: Any) -> Any:
    return held
