"""Policy objectives: how the policy is extracted from Q and V."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.struct
import jax.numpy as jnp
import numpy as np

from xql_jax.learners import fields
from xql_jax.learners.heads import Gaussian
from xql_jax.learners.train_state import Model, TrainState
from xql_jax.losses.actor import exponential_advantage_weight
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


class Estimates(NamedTuple):
    """Q and V of a batch, as policy objectives use them."""

    q: Array  # f32[B], Q(s, a) of the data's actions
    v: Array  # f32[B], V(s)
    scale: Numeric = 1.0  # of advantages, reward units, f32[] or f32[B]; see `Reading`
    q_of: Callable[[Array, Array], Array] | None = None  # of f32[B, O] and f32[B, A]; None: there is no Q


@flax.struct.dataclass
class PolicyObjective(fields.Part):
    """Base policy objective: clones the data. Subclasses override `update` and may have their own state."""

    head: Gaussian = fields.part(Gaussian)
    actor_lr: Numeric = fields.traced(3e-4, fields.POSITIVE)
    decay_actor_lr: bool = fields.static(
        True, fields.EITHER, "Let the policy's learning rate fall to 0 along a half cosine over --max_steps."
    )
    actor_decay_steps: Any = fields.internal(np.float32(np.inf), leaf=True)  # rate 0 from then on; inf: never

    def update(
        self,
        actor: TrainState,
        estimates: Estimates | None,
        batch: Batch,
        key: PRNGKey,
        max_grad_norm: Numeric,
    ) -> tuple[TrainState, Metrics]:
        """One step of the objective."""
        return self.regress(actor, jnp.ones_like(batch.rewards), batch, key, max_grad_norm)

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> TrainState:
        network = self.head.network(actions.shape[-1])
        return TrainState.create(network, network.init(key, observations))

    def scheduled(self, steps: float) -> Any:
        decay_steps = np.float32(steps if self.decay_actor_lr else np.inf)
        return dataclasses.replace(self, actor_decay_steps=decay_steps)

    def regress(
        self, actor: TrainState, weights: Array, batch: Batch, key: PRNGKey, max_grad_norm: Numeric
    ) -> tuple[TrainState, Metrics]:
        """One step on -weight * log pi(a|s), averaged over the batch; weights f32[B]."""

        def loss(params):
            distribution = actor.at(params, batch.observations, training=True, rngs={"dropout": key})
            log_probs = distribution.log_prob(batch.actions)
            actor_loss = -(weights * log_probs).mean()
            return actor_loss, {"actor/loss": actor_loss, "actor/log_prob": log_probs.mean()}

        return actor.minimize(loss, self.rate(actor), max_grad_norm)

    def rate(self, actor: TrainState) -> Array:
        """The learning rate of the actor's next step, f32[]."""
        progress = jnp.minimum(actor.optimizer_state.count / self.actor_decay_steps, 1.0)
        return self.actor_lr * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


@flax.struct.dataclass
class WeightedRegression(PolicyObjective):
    """Clones the data's actions, each weighted by its advantage. Subclasses define `weights`."""

    max_weight: Numeric = fields.traced(
        100.0,
        fields.POSITIVE_OR_OFF,
        "Largest weight that an action of the data may have in the policy's loss; inf: no bound.",
    )

    def weights(self, advantages: Array) -> Array:
        """Weights f32[B] for advantages f32[B]; they are constants for gradients."""
        raise NotImplementedError

    def update(
        self, actor: Any, estimates: Any, batch: Batch, key: PRNGKey, max_grad_norm: Numeric
    ) -> tuple[Any, Metrics]:
        advantages = (estimates.q - estimates.v) / estimates.scale
        weights = self.weights(advantages)
        actor, info = self.regress(actor, weights, batch, key, max_grad_norm)
        return actor, {**info, "actor/advantage": advantages.mean(), "actor/weight": weights.mean()}


@flax.struct.dataclass
class ForwardKL(WeightedRegression):
    """Advantage-weighted regression (Eq. 12).

    It fits the policy nearest in forward KL to mu * min(exp(A), max_weight), normalised, where A is
    awr_temperature * (Q - V) / scale.
    """

    awr_temperature: Numeric = fields.traced(3.0, fields.NOT_NEGATIVE)  # 1 / reward units

    def weights(self, advantages: Array) -> Array:
        return exponential_advantage_weight(
            advantages, awr_temperature=self.awr_temperature, max_weight=self.max_weight
        )


@flax.struct.dataclass
class PolicyLearner(fields.Part):
    """A learner whose policy gives a distribution over actions."""

    max_grad_norm: Numeric = fields.traced(jnp.inf, fields.POSITIVE_OR_OFF)  # inf: not clipped
    batch_type: ClassVar[type] = Batch  # what it learns from

    def actor(self, state: Any) -> Model:
        """All of the state that `act` needs."""
        return Model(state.policy.network, state.policy.params)

    def act(self, actor: Model, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """Actions f32[B, A] within [-1, 1] for observations f32[B, O]: a clipped sample, or the centre."""
        distribution = actor(observations)
        if deterministic:
            return distribution.central_action()
        return jnp.clip(distribution.sample(key), -1.0, 1.0)
