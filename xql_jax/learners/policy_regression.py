"""A Gaussian policy fitted to data actions by weighted log-likelihood: every in-sample method's actor."""

from typing import Any, ClassVar

import flax.struct
import jax.numpy as jnp

from xql_jax.learners.train_state import TrainState, static
from xql_jax.networks.policies import GaussianPolicy
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey, State


@flax.struct.dataclass
class PolicyRegression:
    """The actor's hyperparameters and its two operations, fit and act. Its states have a field `actor`."""

    uses_next_actions: ClassVar[bool] = False
    actor_lr: Numeric = 3e-4
    actor_decay_steps: Numeric = jnp.inf  # the rate falls to 0 along a half cosine by then; inf: never
    max_grad_norm: Numeric = jnp.inf  # of each network's gradient; inf: not clipped
    hidden_dims: tuple[int, ...] = static((256, 256))
    dropout_rate: float = static(0.0)  # of the actor, while training

    def init_actor(self, key: PRNGKey, observations: Array, actions: Array) -> TrainState:
        return TrainState.create(self.policy(actions.shape[-1]).init(key, observations))

    def policy(self, action_dim: int) -> GaussianPolicy:
        return GaussianPolicy(action_dim, self.hidden_dims, self.dropout_rate)

    def update_actor(
        self, actor: TrainState, batch: Batch, weights: Array, step: Array, key: PRNGKey
    ) -> tuple[TrainState, Metrics]:
        """One step on -weight * log pi(a|s), averaged over the batch; weights f32[B] (Eq. 12; 1: cloning)."""

        def loss(params):
            policy = self.policy(batch.actions.shape[-1])
            distribution: Any = policy.apply(params, batch.observations, training=True, rngs={"dropout": key})
            log_probs = distribution.log_prob(batch.actions)
            actor_loss = -(weights * log_probs).mean()
            return actor_loss, {"actor/loss": actor_loss, "actor/log_prob": log_probs.mean()}

        progress = jnp.minimum(step / self.actor_decay_steps, 1.0)
        learning_rate = self.actor_lr * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        return actor.minimize(loss, learning_rate=learning_rate, max_grad_norm=self.max_grad_norm)

    def act(self, state: State, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """Actions f32[B, A] within [-1, 1] for observations f32[B, O]: the mean, or a clipped sample."""
        action_dim = state.actor.params["params"]["log_std"].shape[-1]
        distribution: Any = self.policy(action_dim).apply(state.actor.params, observations)
        return distribution.mean if deterministic else jnp.clip(distribution.sample(key), -1.0, 1.0)
