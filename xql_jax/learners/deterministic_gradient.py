"""TD3's policy: deterministic, and it climbs Q."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.train_state import TrainState
from xql_jax.networks.squashed_policies import DeterministicPolicy
from xql_jax.types import Array, Numeric, PRNGKey


class DeterministicState(TrainState):
    """The actor's state, and the metrics of its last update; 0 before the first."""

    metrics: Any = None


@flax.struct.dataclass
class DeterministicGradient(fields.Part):
    """pi climbs the first Q."""

    actor_lr: Numeric = fields.traced(1e-3, fields.POSITIVE)
    actor_hidden_dims: tuple[int, ...] = fields.widths(256, 256)

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> DeterministicState:
        network: nn.Module = DeterministicPolicy(actions.shape[-1], self.actor_hidden_dims)
        metrics = {"actor/loss": jnp.zeros(())}
        return DeterministicState.create(network, network.init(key, observations), True, metrics=metrics)

    def update(
        self, policy: DeterministicState, critic: TrainState, observations: Array, max_grad_norm: Numeric
    ) -> DeterministicState:
        def loss(params):
            q = critic.at(critic.params[0], observations, policy.at(params, observations))
            actor_loss = -q.mean()
            return actor_loss, {"actor/loss": actor_loss}

        policy, info = policy.minimize(loss, self.actor_lr, max_grad_norm)
        return policy.replace(metrics=info)
