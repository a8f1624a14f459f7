"""Base class of all value fits: a network V and its gradient steps."""

from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.train_state import TrainState
from xql_jax.losses.critic import mse_loss
from xql_jax.networks.mlp import Initializer, Value, iql_init
from xql_jax.types import Array, Batch, Metrics, Numeric, PRNGKey


class Reading(NamedTuple):
    """Values that the policy and Q learn from, read for a batch after V's update."""

    v: Array  # f32[B], the V(s) from which advantages are counted
    next_v: Array  # f32[B], the V(s') that Q learns from
    rewards: Array  # f32[B], those that Q learns from
    scale: Numeric = 1.0  # of advantages, reward units, f32[] or f32[B]: the policy sees (Q - V) / scale


@flax.struct.dataclass
class ValueFit(fields.Part):
    """Base value fit: V goes to the mean of its targets. Subclasses override `loss_of` and may add state."""

    value_lr: Numeric = fields.traced(3e-4, fields.POSITIVE, "Learning rate of V.")
    value_hidden_dims: tuple[int, ...] = fields.widths(256, 256, meaning="Widths of the hidden layers of V.")
    layer_norm: bool = fields.static(False, fields.EITHER, "Normalise the hidden layers of V.")
    v_updates: int = fields.static(
        1, fields.AT_LEAST_ONE, "Gradient steps of V per update, all on the same minibatch."
    )
    value_init: Initializer = fields.internal(iql_init)

    def loss_of(self, values: Array, targets: Array) -> Array:
        """The method's loss of V(s) f32[B] against its targets f32[B]; the caller takes the mean."""
        return mse_loss(values, targets)

    def init(self, key: PRNGKey, observations: Array, with_target: bool = False) -> Any:
        """Initial state of the fit. Calling it with observations f32[B, O] gives V(s) f32[B]."""
        network = Value(self.value_hidden_dims, self.layer_norm, self.value_init)
        return TrainState.create(network, network.init(key, observations), with_target)

    def fit(
        self, value: Any, observations: Array, targets: Array, max_grad_norm: Numeric, loss_of: Any = None
    ) -> tuple[Any, Metrics]:
        """Takes `v_updates` gradient steps of V(s) on the mean of `loss_of` against the targets f32[B]."""

        def loss(params):
            v = value.at(params, observations)
            value_loss = (loss_of or self.loss_of)(v, targets).mean()
            return value_loss, {"value/loss": value_loss, "value/v": v.mean()}

        for _ in range(self.v_updates):
            value, info = value.minimize(loss, self.value_lr, max_grad_norm)
        return value, info

    def adapted(self, value: Any, bellman_error: Array) -> Any:
        """Returns the state after Q's update too; by default unchanged.

        `bellman_error` f32[] is the root mean square of the Bellman errors that Q learned from.
        """
        return value

    def read(self, value: Any, batch: Batch) -> Reading:
        """Evaluates V at s and s' in one pass, because two passes of half the size are slower on a CPU."""
        v, next_v = jnp.split(value(jnp.concatenate([batch.observations, batch.next_observations])), 2)
        return Reading(v, next_v, batch.rewards)
