"""The policy of soft actor-critics: a squashed Gaussian that is held to a target entropy."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.critics import min_q
from xql_jax.learners.train_state import TrainState
from xql_jax.networks.squashed_policies import TanhGaussianPolicy
from xql_jax.types import Array, Numeric, PRNGKey


class EntropyState(TrainState):
    """The actor's train state, with the train state of the entropy coefficient."""

    log_entropy_coef: Any = None  # a train state whose params are f32[]
    metrics: Any = None  # of the last update; 0 before the first


@flax.struct.dataclass
class MaximumEntropy(fields.Part):
    """Policy that maximises min Q - entropy_coef * log pi.

    The coefficient is tuned so that the entropy is -A nats, where A is the number of action dimensions.
    Subclasses may override `q_of` and `target_entropy`.
    """

    actor_lr: Numeric = fields.traced(1e-4, fields.POSITIVE)
    actor_hidden_dims: tuple[int, ...] = fields.widths(1024, 1024)
    entropy_coef_lr: Numeric = fields.traced(
        1e-4, fields.POSITIVE, "Learning rate of the entropy coefficient."
    )
    initial_entropy_coef: Numeric = fields.traced(
        0.1, fields.POSITIVE, "Entropy coefficient before the first update, in reward units per nat."
    )

    def q_of(self, critic: TrainState, observations: Array, actions: Array) -> Array:
        """The Q(s, a) f32[B] that the policy maximises."""
        return min_q(critic, critic.params, observations, actions)

    def target_entropy(self, action_dim: int) -> Numeric:
        """The entropy that the policy is tuned to, nats."""
        return -action_dim

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> EntropyState:
        network: nn.Module = TanhGaussianPolicy(actions.shape[-1], self.actor_hidden_dims)
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
        critic: TrainState,
        observations: Array,
        key: PRNGKey,
        max_grad_norm: Numeric,
    ) -> EntropyState:
        """One step of the policy, and one of the coefficient with the policy's entropy before that step."""

        def actor_loss(params):
            actions, log_probs = policy.at(params, observations).sample_and_log_prob(key)
            q = self.q_of(critic, observations, actions)
            loss = (jnp.exp(policy.log_entropy_coef.params) * log_probs - q).mean()
            return loss, {"actor/loss": loss, "actor/entropy": -log_probs.mean()}

        def coefficient_loss(log_coef):
            return jnp.exp(log_coef) * (info["actor/entropy"] - target_entropy), {}

        target_entropy = self.target_entropy(policy.network.action_dim)
        updated, info = policy.minimize(actor_loss, self.actor_lr, max_grad_norm)
        log_entropy_coef, _ = policy.log_entropy_coef.minimize(
            coefficient_loss, self.entropy_coef_lr, max_grad_norm
        )
        return updated.replace(log_entropy_coef=log_entropy_coef, metrics=info)
