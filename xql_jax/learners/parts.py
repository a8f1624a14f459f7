"""The parts that learners are made of: networks with Adam's state, V, Q, and policies fitted to the data."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from xql_jax.learners import fields
from xql_jax.losses.regression import advantage_weight, mse_loss, td_target
from xql_jax.networks.mlp import GaussianPolicy, Initializer, Value, iql_init
from xql_jax.pytrees import Distinct
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey

ADAM = optax.scale_by_adam()  # the rate is multiplied outside optax, so that it can be traced and swept


class TrainState(Distinct, flax.struct.PyTreeNode):
    """A network with its parameters; while it learns also Adam's moments, and its target's parameters."""

    network: Any = flax.struct.field(pytree_node=False)  # a flax module; None for parameters alone
    params: Params
    optimizer_state: Any = None
    target: Params = None

    @classmethod
    def create(cls, network: Any, params: Params, **own: Any) -> Self:
        return cls(network, params, ADAM.init(params), **own)

    def with_target(self) -> Self:
        """With a target that begins as a copy of the parameters: a shared buffer cannot be donated."""
        return self.replace(target=jax.tree.map(jnp.copy, self.params))

    def __call__(self, *inputs: Array, **options: Any) -> Any:
        return self.network.apply(self.params, *inputs, **options)

    def in_training(self, params: Params, inputs: Any, key: PRNGKey) -> Any:
        """The network's output under these parameters, with dropout."""
        return self.network.apply(params, inputs, training=True, rngs={"dropout": key})

    def polyak_update(self, tau: Numeric) -> Self:
        """The target moved towards the parameters at the Polyak rate tau."""
        return self.replace(target=optax.incremental_update(self.params, self.target, tau))


class LearnerState(Distinct, flax.struct.PyTreeNode):
    """A learner's train states."""

    step: Array  # i32[], updates done
    policy: Any
    value: Any = None  # callable, V(s) f32[B] of observations f32[B, O]; None: there is no network V
    critic: Any = None


@flax.struct.dataclass
class Trained(fields.Part):
    """A part whose networks learn by Adam. All parts of a learner have the same `max_grad_norm`."""

    max_grad_norm: Numeric = fields.traced(jnp.inf, fields.POSITIVE_OR_OFF)  # inf: not clipped

    def minimize(self, state: Any, loss: Callable, learning_rate: Numeric) -> tuple[Any, Metrics]:
        """One Adam step on loss(params) -> (scalar, metrics), the gradient's global norm clipped first."""
        gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
        shrink = jnp.minimum(1.0, self.max_grad_norm / (optax.global_norm(gradients) + 1e-12))
        shrink = jnp.where(jnp.isinf(self.max_grad_norm), 1.0, shrink)  # the norm itself may overflow
        gradients = jax.tree.map(lambda gradient: gradient * shrink, gradients)
        directions, optimizer_state = ADAM.update(gradients, state.optimizer_state)
        params = jax.tree.map(lambda param, step: param - learning_rate * step, state.params, directions)
        return state.replace(params=params, optimizer_state=optimizer_state), metrics

    def actor(self, state: Any) -> Any:
        """A policy's function from states to distributions over actions, out of its learner's state."""
        return TrainState(state.policy.network, state.policy.params)


@flax.struct.dataclass
class ValueFit(Trained):
    """Base value fit: V goes to the mean of its targets. Subclasses override `loss_of` and may add state."""

    value_lr: Numeric = fields.traced(3e-4, fields.POSITIVE, "Learning rate of V.")
    value_hidden_dims: tuple[int, ...] = fields.widths(256, 256, meaning="Widths of the hidden layers of V.")
    layer_norm: bool = fields.static(False, fields.EITHER, "Normalise the hidden layers of V.")
    v_updates: int = fields.static(1, fields.AT_LEAST_ONE, "Gradient steps of V on each minibatch.")
    value_init: Initializer = fields.internal(iql_init)

    def loss_of(self, values: Array, targets: Array) -> Array:
        """The method's loss of V(s) f32[B] against its targets f32[B]; the caller takes the mean."""
        return mse_loss(values, targets)

    def init(self, key: PRNGKey, observations: Array) -> Any:
        network = Value(self.value_hidden_dims, self.layer_norm, self.value_init)
        return TrainState.create(network, network.init(key, observations))

    def fit(self, value: Any, states: Array, targets: Array, loss_of: Any = None) -> tuple[Any, Metrics]:
        """Takes `v_updates` gradient steps of V(s) on the mean of `loss_of` against the targets f32[B]."""

        def loss(params):
            v = value.network.apply(params, states)
            value_loss = (loss_of or self.loss_of)(v, targets).mean()
            return value_loss, {"value/loss": value_loss, "value/v": v.mean()}

        for _ in range(self.v_updates):
            value, info = self.minimize(value, loss, self.value_lr)
        return value, info

    def v_and_q_targets(self, value: Any, batch: Batch, discount: Numeric) -> tuple[Array, Array, Numeric]:
        """V(s), Q's targets r + discount * V(s'), both f32[B], and what advantages are divided by."""
        # One pass over s and s': two of half the size are slower on a CPU.
        v, next_v = jnp.split(value(jnp.concatenate([batch.observations, batch.next_observations])), 2)
        return v, td_target(batch.rewards, batch.masks, next_v, discount=discount), 1.0


@flax.struct.dataclass
class Critic(Trained):
    """Q networks and their gradient steps."""

    critic_lr: Numeric = fields.traced(3e-4, fields.POSITIVE, "Learning rate of Q.")
    critic_hidden_dims: tuple[int, ...] = fields.widths(256, 256, meaning="Widths of the hidden layers of Q.")
    num_critics: int = fields.static(2, fields.AT_LEAST_ONE, "Number of critics. Their minimum is used.")
    critic_layer_norm: bool = fields.static(False, fields.EITHER, "Normalise the hidden layers of Q.")
    critic_init: Initializer = fields.internal(iql_init)

    def loss_of(self, values: Array, targets: Array) -> Array:
        """The loss of Q(s, a) f32[B] against its targets f32[B]; the caller takes the mean."""
        return mse_loss(values, targets)

    def init(self, keys: Any, observations: Array, actions: Array) -> Any:
        """The first train state, with a target; its params are a tuple with one network's per key."""
        network = Value(self.critic_hidden_dims, self.critic_layer_norm, self.critic_init)
        params = tuple(network.init(key, observations, actions) for key in keys)
        return TrainState.create(network, params).with_target()

    def fit(self, critic: Any, batch: Batch, targets: Array, loss_of: Any = None) -> tuple[Any, Metrics]:
        """One step of every Q(s, a) towards the targets f32[B], on the sum of their mean losses."""

        def loss(params):
            qs = [critic.network.apply(p, batch.observations, batch.actions) for p in params]
            critic_loss = sum((loss_of or self.loss_of)(q, targets).mean() for q in qs)
            return critic_loss, {"critic/loss": critic_loss, "critic/q": qs[0].mean()}

        return self.minimize(critic, loss, self.critic_lr)


def min_q(critic: TrainState, params: Params, observations: Array, actions: Array) -> Array:
    """The minimum of the networks' Q(s, a), f32[..., B], under these parameters."""
    return jnp.stack([critic.network.apply(p, observations, actions) for p in params]).min(axis=0)


@flax.struct.dataclass
class Gaussian(fields.Part):
    """IQL's head: the mean is a tanh, the standard deviation does not depend on the state."""

    actor_hidden_dims: tuple[int, ...] = fields.widths(256, 256)
    dropout_rate: float = fields.static(0.0, fields.BELOW_ONE)  # while training
    policy_network: Any = fields.internal(GaussianPolicy)

    def network(self, action_dim: int) -> Any:
        return self.policy_network(action_dim, self.actor_hidden_dims, self.dropout_rate)


class Estimates(NamedTuple):
    """Q and V of a batch, as policy objectives use them."""

    q: Array  # f32[B], Q(s, a) of the data's actions
    v: Array  # f32[B], V(s)
    scale: Numeric = 1.0  # divides advantages, f32[] or f32[B]: 1, or a method's own, in reward units
    q_of: Callable[[Array, Array], Array] | None = None  # of f32[B, O] and f32[B, A]; None: there is no Q


@flax.struct.dataclass
class PolicyObjective(Trained):
    """Base policy objective: subclasses write `update(actor, estimates, batch, key)` and may add state."""

    head: Gaussian = fields.part(Gaussian)
    actor_lr: Numeric = fields.traced(3e-4, fields.POSITIVE)
    decay_actor_lr: bool = fields.static(True, fields.EITHER, "Let actor_lr fall to 0 over --max_steps.")
    actor_decay_steps: Any = fields.internal(np.float32(np.inf), leaf=True)  # rate 0 from then on; inf: never

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> TrainState:
        network = self.head.network(actions.shape[-1])
        return TrainState.create(network, network.init(key, observations))

    def regress(self, actor: Any, weights: Array, batch: Batch, key: PRNGKey) -> tuple[Any, Metrics]:
        """One step on -weight * log pi(a|s), averaged over the batch; weights f32[B]."""

        def loss(params):
            policy = actor.in_training(params, batch.observations, key)
            log_probs = policy.log_prob(batch.actions)
            actor_loss = -(weights * log_probs).mean()
            return actor_loss, {"actor/loss": actor_loss, "actor/log_prob": log_probs.mean()}

        return self.minimize(actor, loss, self.rate(actor))

    def scheduled(self, steps: float) -> Any:
        end = np.float32(steps if self.decay_actor_lr else np.inf)
        return dataclasses.replace(self, actor_decay_steps=end)

    def rate(self, actor: TrainState) -> Array:
        """The learning rate of the actor's next step, f32[]: it falls along a half cosine, if it decays."""
        progress = jnp.minimum(actor.optimizer_state.count / self.actor_decay_steps, 1.0)
        return self.actor_lr * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


@flax.struct.dataclass
class ForwardKL(PolicyObjective):
    """Advantage-weighted regression (Eq. 12): the policy nearest in forward KL to mu * weight, normalised.

    The weight is min(exp(awr_temperature * (Q - V) / scale), max_weight).
    """

    max_weight: Numeric = fields.traced(100.0, fields.POSITIVE_OR_OFF)  # inf: no bound
    awr_temperature: Numeric = fields.traced(3.0, fields.NOT_NEGATIVE)  # 1 / (reward units / scale)

    def update(self, actor: Any, estimates: Any, batch: Batch, key: PRNGKey) -> tuple[Any, Metrics]:
        gain, largest = (estimates.q - estimates.v) / estimates.scale, self.max_weight
        weights = advantage_weight(gain, awr_temperature=self.awr_temperature, max_weight=largest)
        actor, info = self.regress(actor, weights, batch, key)
        return actor, {**info, "actor/advantage": gain.mean(), "actor/weight": weights.mean()}


@flax.struct.dataclass
class PolicyLearner(fields.Part):
    """A learner whose part `policy` gives a distribution over actions."""

    batch_type: ClassVar[type] = Batch  # what it learns from

    def actor(self, state: Any) -> Any:
        return self.policy.actor(state)  # type: ignore[attr-defined]  # every subclass has one

    def act(self, actor: Any, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """Actions f32[B, A] within [-1, 1] for observations f32[B, O]: a clipped sample, or the centre."""
        distribution = actor(observations)
        if deterministic:
            return distribution.central_action()
        return jnp.clip(distribution.sample(key), -1.0, 1.0)
