"""How Q is fitted: one or several networks that learn from the same targets."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.train_state import LearnerState, TrainState
from xql_jax.losses.critic import huber_loss, mse_loss
from xql_jax.networks.mlp import Initializer, Value, iql_init
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey, SarsaBatch


@flax.struct.dataclass
class Critic(fields.Part):
    """Networks Q and their steps. Parameters are a tuple with one entry a network."""

    critic_lr: Numeric = fields.traced(3e-4, fields.POSITIVE)
    critic_hidden_dims: tuple[int, ...] = fields.widths(256, 256)
    num_critics: int = fields.static(2, fields.AT_LEAST_ONE)
    critic_init: Initializer = fields.internal(iql_init)

    def loss_of(self, values: Array, targets: Array) -> Array:
        """The loss of Q(s, a) f32[B] against its targets f32[B]; the caller takes the mean."""
        return mse_loss(values, targets)

    def network(self) -> nn.Module:
        """The network of one Q(s, a)."""
        return Value(self.critic_hidden_dims, kernel_init=self.critic_init)

    def init(
        self, keys: Sequence[PRNGKey], observations: Array, actions: Array, with_target: bool = True
    ) -> TrainState:
        """One network a key."""
        network = self.network()
        params = tuple(network.init(key, observations, actions) for key in keys)
        return TrainState.create(network, params, with_target)

    def fit(
        self, critic: TrainState, batch: Batch, targets: Array, max_grad_norm: Numeric, loss_of: Any = None
    ) -> tuple[TrainState, Metrics]:
        """One step of every Q(s, a) towards the targets f32[B], on the sum of their mean losses."""

        def loss(params):
            qs = [critic.at(p, batch.observations, batch.actions) for p in params]
            critic_loss = sum((loss_of or self.loss_of)(q, targets).mean() for q in qs)
            return critic_loss, {"critic/loss": critic_loss, "critic/q": qs[0].mean()}

        return critic.minimize(loss, self.critic_lr, max_grad_norm)


@flax.struct.dataclass
class TemporalDifference(Critic):
    """Q goes to r + discount * V(s') (Garg et al. 2023, Eq. 14), by a loss averaged over the networks."""

    critic_loss: Callable[[Array, Array], Array] = fields.choice(mse=mse_loss, huber=huber_loss)

    def loss_of(self, values: Array, targets: Array) -> Array:
        return self.critic_loss(values, targets) / self.num_critics


def init_actor_critic(
    policy: Any, critic: Critic, key: PRNGKey, observations: Array, actions: Array
) -> LearnerState:
    """The first state of a learner that has a policy and critics, and no V."""
    key_policy, *keys_critic = jax.random.split(key, 1 + critic.num_critics)
    return LearnerState(
        step=jnp.zeros((), jnp.int32),
        policy=policy.init(key_policy, observations, actions),
        critic=critic.init(keys_critic, observations, actions),
    )


def at_each(observations: Array, actions: Array) -> Array:
    """The observations f32[B, O] beside several actions of each, f32[N, B, A]: f32[N, B, O]."""
    return jnp.broadcast_to(observations, (len(actions), *observations.shape))


def min_q(critic: TrainState, params: Params, observations: Array, actions: Array) -> Array:
    """The least of the networks' Q(s, a), f32[..., B], under these parameters."""
    return jnp.stack([critic.at(p, observations, actions) for p in params]).min(axis=0)


def next_actions_of(batch: Batch) -> Array:
    """The actions f32[B, A] that the data's policy took in s'; ValueError unless it is a `SarsaBatch`."""
    if not isinstance(batch, SarsaBatch):
        raise ValueError("batch must be a SarsaBatch: the method learns from next_actions, too")
    return batch.next_actions
