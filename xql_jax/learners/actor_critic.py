"""What actor-critics share: fields, first state, and updates that are due every few steps."""

from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.parts import Critic, LearnerState, PolicyLearner, PolicyObjective
from xql_jax.losses.regression import td_target
from xql_jax.networks.mlp import Value
from xql_jax.types import Array, Batch, Numeric, PRNGKey, SarsaBatch, State

Held = TypeVar("Held")


@flax.struct.dataclass
class NormalizedCritic(Critic):
    """Critics with layer norm in every hidden layer."""

    critic_layer_norm: bool = fields.static(True, fields.EITHER, "Normalise the hidden layers of Q.")

    def network(self) -> nn.Module:
        return Value(self.critic_hidden_dims, self.critic_layer_norm, self.critic_init)


@flax.struct.dataclass
class ActorCritic(PolicyLearner):
    """What learners with a policy and critics have in common. Each method writes its own `update`."""

    policy: Any = fields.part(PolicyObjective)
    critic: Critic = fields.part(Critic)
    discount: Numeric = fields.traced(0.99, fields.UNIT_INTERVAL)
    tau: Numeric = fields.traced(0.005, fields.ABOVE_ZERO)  # Polyak rate, per update of the targets

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, *keys_critic = jax.random.split(key, 1 + self.critic.num_critics)
        return LearnerState(
            step=jnp.zeros((), jnp.int32),
            policy=self.policy.init(key_policy, observations, actions),
            critic=self.critic.init(keys_critic, observations, actions),
        )


@flax.struct.dataclass
class Delayed(ActorCritic):
    """An actor-critic that updates its policy and its targets once per period.

    They are updated at the multiples of `actor_period` and of `target_period`, counting updates from 1.
    """

    actor_period: int = fields.static(2, fields.AT_LEAST_ONE, "Updates of Q per update of the policy.")
    target_period: int = fields.static(
        2, fields.AT_LEAST_ONE, "Updates of Q per update of the target networks."
    )

    def follow(self, state: Any, step: Array) -> Any:
        """The train state after update `step`, with its target moved if that is due."""
        return every(self.target_period, step, lambda held: held.polyak_update(self.tau), state)

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
    return jax.lax.cond(step % period == 0, update, lambda unchanged: unchanged, held)


def next_actions_of(batch: Batch) -> Array:
    """Actions f32[B, A] of the data's policy in s'; raises ValueError unless batch is a `SarsaBatch`."""
    if not isinstance(batch, SarsaBatch):
        raise ValueError("batch must be a SarsaBatch: the method learns from next_actions, too")
    return batch.next_actions
