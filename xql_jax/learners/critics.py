"""Critics: one or several Q networks that are fitted to the same targets."""

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
    """Q networks and their gradient steps. Parameters are a tuple with one entry per network."""

    critic_lr: Numeric = fields.traced(3e-4, fields.POSITIVE, "Learning rate of Q.")
    critic_hidden_dims: tuple[int, ...] = fields.widths(256, 256, meaning="Widths of the hidden layers of Q.")
    num_critics: int = fields.static(
        2,
        fields.AT_LEAST_ONE,
        "Number of critics. Targets use the minimum of all of them, or of num_min_critics.",
    )
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
        """Returns the initial train state, with one network per key."""
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
class NormalizedCritic(Critic):
    """Critics with layer norm in every hidden layer."""

    critic_layer_norm: bool = fields.static(True, fields.EITHER, "Normalise the hidden layers of Q.")

    def network(self) -> nn.Module:
        return Value(self.critic_hidden_dims, self.critic_layer_norm, self.critic_init)


@flax.struct.dataclass
class TemporalDifference(Critic):
    """Critics fitted to r + discount * V(s') (Garg et al. 2023, Eq. 14).

    Squared errors are averaged over the networks; Huber losses are summed, as in the authors' offline code.
    Near 0 the Huber loss is half the squared error, so with two networks both give the same loss there.
    """

    critic_loss: Callable[[Array, Array], Array] = fields.choice(
        "Loss of Q: mse (the squared error, averaged over the critics) or huber (summed over them).",
        mse=mse_loss,
        huber=huber_loss,
    )

    def loss_of(self, values: Array, targets: Array) -> Array:
        loss = self.critic_loss(values, targets)
        return loss if self.critic_loss is huber_loss else loss / self.num_critics


def init_actor_critic(
    policy: Any, critic: Critic, key: PRNGKey, observations: Array, actions: Array
) -> LearnerState:
    """Initial state of a learner that has a policy and critics, and no V."""
    key_policy, *keys_critic = jax.random.split(key, 1 + critic.num_critics)
    return LearnerState(
        step=jnp.zeros((), jnp.int32),
        policy=policy.init(key_policy, observations, actions),
        critic=critic.init(keys_critic, observations, actions),
    )


def at_each(observations: Array, actions: Array) -> Array:
    """Repeats observations f32[B, O] for N actions per state, f32[N, B, A]; returns f32[N, B, O]."""
    return jnp.broadcast_to(observations, (len(actions), *observations.shape))


def all_q(critic: TrainState, params: Params, observations: Array, actions: Array) -> Array:
    """Every network's Q(s, a), f32[N, ..., B], under these parameters."""
    return jnp.stack([critic.at(p, observations, actions) for p in params])


def min_q(critic: TrainState, params: Params, observations: Array, actions: Array) -> Array:
    """The minimum of the networks' Q(s, a), f32[..., B], under these parameters."""
    return all_q(critic, params, observations, actions).min(axis=0)


def next_actions_of(batch: Batch) -> Array:
    """Actions f32[B, A] of the data's policy in s'; raises ValueError unless batch is a `SarsaBatch`."""
    if not isinstance(batch, SarsaBatch):
        raise ValueError("batch must be a SarsaBatch: the method learns from next_actions, too")
    return batch.next_actions
