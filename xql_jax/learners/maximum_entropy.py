"""What SAC and its kin share: a policy held to a target entropy, its soft value, and the first state."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.actor_critic import Delayed, every
from xql_jax.learners.parts import Critic, LearnerState, Trained, TrainState, ValueFit, min_q
from xql_jax.networks.policies import TanhGaussianPolicy, sac_init
from xql_jax.types import Array, Metrics, Numeric, Params, PRNGKey

# From Table 5; what it does not list is from the authors' code.
TABLE_5 = {
    **dict.fromkeys(("actor_lr", "critic_lr", "value_lr", "entropy_coef_lr"), 1e-4),
    **dict.fromkeys(("actor_hidden_dims", "critic_hidden_dims", "value_hidden_dims"), (1024, 1024)),
    "actor_period": 1,
}


class EntropyState(TrainState):
    """The actor's train state, with the train state of the entropy coefficient."""

    log_entropy_coef: Any = None  # a train state whose params are f32[]
    metrics: Any = None  # of the last update; 0 before the first

    @property
    def entropy_coef(self) -> Array:
        return jnp.exp(self.log_entropy_coef.params)


@flax.struct.dataclass
class MaximumEntropy(Trained):
    """Policy that maximises Q - entropy_coef * log pi; the coefficient is tuned to a target entropy."""

    actor_lr: Numeric = fields.traced(1e-4, fields.POSITIVE)
    actor_hidden_dims: tuple[int, ...] = fields.widths(1024, 1024)
    entropy_coef_lr: Numeric = fields.traced(
        1e-4, fields.POSITIVE, "Learning rate of the entropy coefficient."
    )
    initial_entropy_coef: Numeric = fields.traced(
        0.1, fields.POSITIVE, "Entropy coefficient before the first update, in reward units per nat."
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> EntropyState:
        network = TanhGaussianPolicy(actions.shape[-1], self.actor_hidden_dims)
        log_coef = jnp.log(jnp.asarray(self.initial_entropy_coef, jnp.float32))
        return EntropyState.create(
            network,
            network.init(key, observations),
            log_entropy_coef=TrainState.create(None, log_coef),
            metrics=dict.fromkeys(("actor/loss", "actor/entropy"), jnp.zeros(())),
        )

    def update(
        self,
        policy: EntropyState,
        q_of: Callable[[Array, Array], Array],
        observations: Array,
        key: PRNGKey,
        target_share: Numeric,
    ) -> EntropyState:
        """One step of the policy, and one of the coefficient with the policy's entropy before that step.

        Args:
            q_of: the Q that it maximises, f32[B] of f32[B, O] and f32[B, A].
            target_share: the target entropy in units of SAC's, which is -1 nat per action dimension.
        """

        def actor_loss(params):
            actions, log_probs = policy.at(params, observations).sample_and_log_prob(key)
            loss = (policy.entropy_coef * log_probs - q_of(observations, actions)).mean()
            return loss, {"actor/loss": loss, "actor/entropy": -log_probs.mean()}

        def coefficient_loss(log_coef):
            return jnp.exp(log_coef) * (info["actor/entropy"] - target_entropy), {}

        target_entropy = target_share * -policy.network.action_dim
        updated, info = self.minimize(policy, actor_loss, self.actor_lr)
        coefficient, _ = self.minimize(policy.log_entropy_coef, coefficient_loss, self.entropy_coef_lr)
        return updated.replace(log_entropy_coef=coefficient, metrics=info)


@flax.struct.dataclass
class SoftActorCritic(Delayed):
    """Fields and first state of SAC and its kin. Each method writes its own `update`."""

    policy: MaximumEntropy = fields.part(MaximumEntropy)
    critic: Critic = fields.part(functools.partial(Critic, critic_init=sac_init))

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        return self.first_state(key, observations, actions, None)

    def first_state(
        self, key: PRNGKey, observations: Array, actions: Array, value: ValueFit | None
    ) -> LearnerState:
        """The state before all updates; with `value`, V has a target network instead of Q."""
        key_policy, key_value, *keys_critic = jax.random.split(key, 2 + self.critic.num_critics)
        return LearnerState(
            step=jnp.zeros((), jnp.int32),
            policy=self.policy.init(key_policy, observations, actions),
            critic=self.critic.init(keys_critic, observations, actions, with_target=value is None),
            value=None if value is None else value.init(key_value, observations, with_target=True),
        )

    def improve(
        self,
        policy: EntropyState,
        step: Array,
        q_of: Callable[[Array, Array], Array],
        observations: Array,
        key: PRNGKey,
        target_share: Numeric = 1.0,
    ) -> tuple[EntropyState, Metrics]:
        """The policy after update `step`: it and its coefficient take a step if that is due, and metrics."""

        def update(policy: EntropyState) -> EntropyState:
            return self.policy.update(policy, q_of, observations, key, target_share)

        policy = every(self.actor_period, step, update, policy)
        return policy, {**policy.metrics, "entropy_coef": policy.entropy_coef}


def sampled_q(
    policy: EntropyState, critic: TrainState, params: Params, observations: Array, key: PRNGKey
) -> tuple[Array, Array]:
    """min Q(s, a) and entropy_coef * log pi(a|s), both f32[B], at one fresh action of the policy."""
    actions, log_probs = policy(observations).sample_and_log_prob(key)
    return min_q(critic, params, observations, actions), policy.entropy_coef * log_probs
