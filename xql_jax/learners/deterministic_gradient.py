"""TD3's policy objective: a deterministic policy that maximises Q."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.train_state import TrainState
from xql_jax.networks.mlp import Initializer
from xql_jax.networks.squashed_policies import DeterministicPolicy, td3_init
from xql_jax.types import Array, Batch, Numeric, PRNGKey


class DeterministicState(TrainState):
    """The actor's state, and the metrics of its last update; 0 before the first."""

    metrics: Any = None


@flax.struct.dataclass
class DeterministicGradient(fields.Part):
    """Deterministic policy that maximises the first critic. Subclasses may override `q_of` and `loss_of`."""

    actor_lr: Numeric = fields.traced(1e-3, fields.POSITIVE)
    actor_hidden_dims: tuple[int, ...] = fields.widths(256, 256)
    actor_init: Initializer = fields.internal(td3_init)

    def q_of(self, critic: TrainState, observations: Array, actions: Array) -> Array:
        """The Q(s, a) f32[B] that the policy maximises."""
        return critic.at(critic.params[0], observations, actions)

    def loss_of(self, q: Array, actions: Array, batch: Batch) -> Array:
        """The policy's loss, a scalar, from q f32[B] = Q(s, a) of its actions f32[B, A]."""
        return -q.mean()

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> DeterministicState:
        network: nn.Module = DeterministicPolicy(actions.shape[-1], self.actor_hidden_dims, self.actor_init)
        metrics = {"actor/loss": jnp.zeros(())}
        return DeterministicState.create(network, network.init(key, observations), True, metrics=metrics)

    def update(
        self, policy: DeterministicState, critic: TrainState, batch: Batch, max_grad_norm: Numeric
    ) -> DeterministicState:
        def loss(params):
            actions = policy.at(params, batch.observations)
            q = self.q_of(critic, batch.observations, actions)
            actor_loss = self.loss_of(q, actions, batch)
            return actor_loss, {"actor/loss": actor_loss}

        policy, info = policy.minimize(loss, self.actor_lr, max_grad_norm)
        return policy.replace(metrics=info)
