"""What BRAC-p and BEAR share: a policy that stays near a clone of the data's policy."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.actor_critic import ActorCritic
from xql_jax.learners.heads import Squashed
from xql_jax.learners.parts import Gaussian, LearnerState, Trained, TrainState, all_q, at_each, min_q
from xql_jax.losses.regression import td_target
from xql_jax.networks.policies import Distribution, Draws, draws
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


class RegularizedState(TrainState):
    """The actor's train state, with the train states of the clone and of the penalty's multiplier."""

    behavior: Any = None  # the clone's train state
    log_multiplier: Any = None  # a train state whose params are f32[]; None: nothing is tuned


@flax.struct.dataclass
class RegularizedPolicy(Trained):
    """Policy that maximises min Q - coefficient * distance to a clone of the data's policy.

    The clone is fitted by maximum likelihood in the same updates. During the first `warm_start` updates pi
    only follows the clone, because Q has learned too little to be useful.
    """

    head: Gaussian = fields.part(Squashed)  # of pi and of the clone
    actor_lr: Numeric = fields.traced(1e-4, fields.POSITIVE)
    behavior_lr: Numeric = fields.traced(
        3e-4, fields.POSITIVE, "Learning rate of the clone of the data's policy."
    )
    behavior_hidden_dims: tuple[int, ...] = fields.widths(
        256, 256, meaning="Widths of the hidden layers of the clone of the data's policy."
    )
    warm_start: Numeric = fields.traced(
        20000.0,
        fields.NOT_NEGATIVE,
        "Updates at the start in which the policy only follows the clone.",
        first_updates=True,
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> RegularizedState:
        key_actor, key_behavior = jax.random.split(key)
        network = self.head.network(actions.shape[-1])
        # The clone has the same kind of head as pi, but its own widths.
        head = dataclasses.replace(self.head, actor_hidden_dims=self.behavior_hidden_dims)
        clone = head.network(actions.shape[-1])
        behavior = TrainState.create(clone, clone.init(key_behavior, observations))
        return RegularizedState.create(network, network.init(key_actor, observations), behavior=behavior)

    def fit_clone(
        self, policy: RegularizedState, batch: Batch, key: PRNGKey
    ) -> tuple[RegularizedState, Metrics]:
        """One gradient step of the clone on the log-likelihood of the data's actions."""

        def loss(params):
            distribution = policy.behavior.at(
                params, batch.observations, training=True, rngs={"dropout": key}
            )
            log_prob = distribution.log_prob(batch.actions).mean()
            return -log_prob, {"behavior/log_prob": log_prob}

        behavior, info = self.minimize(policy.behavior, loss, self.behavior_lr)
        return policy.replace(behavior=behavior), info

    def maximize_q(
        self,
        policy: RegularizedState,
        critic: TrainState,
        observations: Array,
        step: Array,
        key: PRNGKey,
        coefficient: Numeric,
        distance_of: Callable[[Distribution, Distribution, PRNGKey], Array],
    ) -> tuple[RegularizedState, Metrics]:
        """One step of pi.

        Args:
            step: counts updates from 1.
            coefficient: cost per unit of distance, reward units.
            distance_of: pi's distance from the clone in each state, f32[B].
        """
        key_q, key_distance, key_dropout = jax.random.split(key, 3)
        behavior = policy.behavior(observations)
        q_counts = step > self.warm_start

        def loss(params):
            distribution = policy.at(params, observations, training=True, rngs={"dropout": key_dropout})
            drawn = draws(distribution, key_q)
            taken = jnp.clip(drawn.actions, -1.0, 1.0)
            q = drawn.mean(min_q(critic, critic.params, at_each(observations, taken), taken))
            distance = distance_of(distribution, behavior, key_distance)
            actor_loss = (coefficient * distance - jnp.where(q_counts, q, 0.0)).mean()
            return actor_loss, {"actor/loss": actor_loss, "actor/divergence": distance.mean()}

        return self.minimize(policy, loss, self.actor_lr)


@flax.struct.dataclass
class BehaviorRegularized(ActorCritic):
    """Fields of BRAC-p and BEAR, and their targets of Q. Each writes its own `update`.

    V(s') is the maximum over `backup_actions` samples of pi of min_share * min Q + (1 - min_share) * max Q,
    where min and max run over the target critics. Q's targets contain neither entropy nor distance.

    Source: Wu et al. 2019 (policy regularisation); Kumar et al. 2019, Algorithm 1.
    """

    policy: RegularizedPolicy = fields.part(RegularizedPolicy)
    min_share: Numeric = fields.traced(
        1.0, fields.UNIT_INTERVAL, "Weight of the smallest critic in Q's targets; the largest has the rest."
    )
    backup_actions: int = fields.static(
        1, fields.AT_LEAST_ONE, "Actions of the policy sampled per next state; the best gives Q's target."
    )
    divergence_samples: int = fields.static(
        4, fields.AT_LEAST_ONE, "Actions per state that estimate the distance of policy and clone."
    )

    def targets(self, state: LearnerState, batch: Batch, key: PRNGKey) -> Array:
        """Q's targets r + discount * V(s'), f32[B]."""
        sampled = sampled_actions(state.policy(batch.next_observations), key, self.backup_actions)
        actions = jnp.clip(sampled, -1.0, 1.0)
        states = at_each(batch.next_observations, actions)
        qs = all_q(state.critic, state.critic.target, states, actions)
        clipped = self.min_share * qs.min(0) + (1.0 - self.min_share) * qs.max(0)  # f32[N, B]
        return td_target(batch.rewards, batch.masks, clipped.max(0), discount=self.discount)


def sampled_actions(distribution: Distribution, key: PRNGKey, count: int) -> Array:
    """Samples `count` actions per state, f32[count, B, A]."""
    return jax.vmap(distribution.sample)(jax.random.split(key, count))


def repeated_draws(distribution: Distribution, key: PRNGKey, count: int) -> Draws:
    """Joins `count` draws of K actions each into one of count * K actions."""
    repeated = jax.vmap(functools.partial(draws, distribution))(jax.random.split(key, count))
    actions, log_probs, weights = (array.reshape(-1, *array.shape[2:]) for array in repeated)
    return Draws(actions, log_probs, weights / count)
