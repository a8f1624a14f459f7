"""The parts that learners are made of: networks with Adam's state, V, Q, and policies fitted to the data."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from xql_jax.errors import UserError
from xql_jax.learners.method import Part, is_ours, named, rate_setting, temperature_setting
from xql_jax.losses.divergence import held_weights, weights_divergence
from xql_jax.losses.regression import advantage_weight, mse_loss, td_target
from xql_jax.networks.mlp import WITH_BIAS, GaussianPolicy, Initializer, Value, iql_init
from xql_jax.numerics.pytrees import Distinct
from xql_jax.settings import (
    AT_LEAST_ONE,
    BELOW_ONE,
    EITHER,
    NOT_NEGATIVE,
    POSITIVE_OR_OFF,
    WIDTHS,
    internal,
    part,
    static,
    traced,
)
from xql_jax.types import AnyBatch, Array, Batch, ChunkBatch, Metrics, Numeric, Params, PRNGKey, Windows

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
ADAM = optax.scale_by_adam(BETA_1, BETA_2, EPSILON)  # the rate stays outside, so that it can be traced
Loss = Callable[[Array, Array], Array]  # of values and targets, f32[B] each; one number an example
QFunction = Callable[[Array, Array], Array]  # Q f32[..., B] of f32[..., B, O] and f32[..., B, A]

S = TypeVar("S", bound="NetworkState")
Moments = TypeVar("Moments", bound=optax.ScaleByAdamState)


def adam(
    params: Params, gradients: Params, state: optax.ScaleByAdamState, rate: Numeric
) -> tuple[Params, optax.ScaleByAdamState]:
    """optax's step: the parameters after it, and the moments."""
    directions, state = ADAM.update(gradients, state)
    return jax.tree.map(lambda param, step: param - rate * step, params, directions), state


def adam_in_few_kernels(
    params: Params, gradients: Params, state: Moments, rate: Numeric
) -> tuple[Params, Moments]:
    """The same with fewer operations: one kernel for each array, and one for each network's scalars."""
    count = optax.safe_increment(state.count)
    mu = jax.tree.map(lambda m, g: m + (1.0 - BETA_1) * (g - m), state.mu, gradients)
    nu = jax.tree.map(lambda n, g: n + (1.0 - BETA_2) * (g * g - n), state.nu, gradients)
    scale = jnp.sqrt(1.0 - BETA_2**count)
    size, least = rate * scale / (1.0 - BETA_1**count), EPSILON * scale
    params = jax.tree.map(lambda p, m, n: p - size * (m / (jnp.sqrt(n) + least)), params, mu, nu)
    return params, state._replace(count=count, mu=mu, nu=nu)


class MomentsTogether(optax.ScaleByAdamState):
    """Adam's moments in an accelerator's program, for `adam_in_few_kernels`."""


class NetworkState(Distinct, flax.struct.PyTreeNode):
    """A network with its parameters; while it learns also Adam's moments, and its target's parameters.

    Arithmetic takes a CPU's time, and the start of kernels an accelerator's. So three computations have two
    forms here, which differ in rounding: Adam's step, the critics' values and the least of these. The type of
    the moments and of the parameters chooses: `MomentsTogether` and `SideBySide` are an accelerator's form.
    `in_few_kernels` (training/accelerator.py) makes them, so methods need not know of them.
    """

    network: Any = flax.struct.field(pytree_node=False)  # a flax module; None for a number that is learned
    params: Params
    optimizer_state: optax.ScaleByAdamState = flax.struct.field(default=None)
    target: Params = None

    @classmethod
    def create(cls, network: nn.Module | None, params: Params, **others: Any) -> Self:
        return cls(network, params, ADAM.init(params), **others)

    def with_target(self) -> Self:
        """With a target that begins as a copy of the parameters: a shared buffer cannot be donated."""
        return self.replace(target=jax.tree.map(jnp.copy, self.params))

    def __call__(self, *inputs: Array | Windows) -> Any:
        return self.apply(self.params, *inputs)

    def apply(self, params: Params, *inputs: Array | Windows) -> Any:
        """Its output under other parameters: values f32[B], or a distribution over actions."""
        return self.network.apply(params, *inputs)

    def in_training(self, params: Params, inputs: Array | Windows, key: PRNGKey) -> Any:
        """`apply` with dropout."""
        return self.network.apply(params, inputs, training=True, rngs={"dropout": key})

    def stepped(self, gradients: Params, rate: Numeric) -> Self:
        """After one step of Adam, in the form that its moments have."""
        step = adam_in_few_kernels if isinstance(self.optimizer_state, MomentsTogether) else adam
        params, optimizer_state = step(self.params, gradients, self.optimizer_state, rate)
        return self.replace(params=params, optimizer_state=optimizer_state)

    def polyak_update(self, tau: Numeric) -> Self:
        return self.replace(target=optax.incremental_update(self.params, self.target, tau))

    def at_target(self) -> Self:
        return self.replace(params=self.target)


class SideBySide(Distinct, flax.struct.PyTreeNode):
    """Several networks' parameters, of equal shapes, as one array each; read as a tuple of each network's."""

    stacked: Params  # with a leading axis over the networks

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.stacked)[0])

    def __getitem__(self, place: int) -> Params:
        if place >= len(self):
            raise IndexError(place)
        return jax.tree.map(lambda leaf: leaf[place], self.stacked)


class CriticState(NetworkState):
    """Networks Q; their parameters, and their targets', are a tuple with those of each network."""

    def each(self, params: Params, observations: Array, actions: Array) -> Sequence[Array]:
        """Every network's Q(s, a), f32[..., B], under other parameters: in turn, or in one pass."""
        if not isinstance(params, SideBySide):
            return [self.apply(own, observations, actions) for own in params]
        # Inputs for each, else XLA makes one product of their first layers, and kernels for the biases.
        inputs = [jnp.broadcast_to(x, (len(params), *x.shape)) for x in (observations, actions)]
        return jax.vmap(self.apply)(params.stacked, *inputs)

    def all_q(self, observations: Array, actions: Array) -> Array:
        """f32[N, ..., B]."""
        return jnp.stack(self.each(self.params, observations, actions))

    def min_q(self, observations: Array, actions: Array) -> Array:
        """The least Q(s, a), f32[..., B]."""
        if not isinstance(self.params, SideBySide):
            return self.all_q(observations, actions).min(axis=0)
        # The minimum's gradient looks for the least among the values, which may differ if computed twice.
        return functools.reduce(lesser, self.each(self.params, observations, actions))

    def mean_q(self, observations: Array, actions: Array) -> Array:
        return self.all_q(observations, actions).mean(axis=0)


def lesser(a: Array, b: Array) -> Array:
    """The smaller of each pair, NaN where one is NaN; all of a gradient goes to the one that is taken."""
    return jnp.where((a > b) | jnp.isnan(b), b, a)


class LearnerState(Distinct, flax.struct.PyTreeNode):
    """The states of a learner's networks, each of the class that its part keeps."""

    step: Array  # i32[], updates done
    policy: Any
    value: Any = None  # callable, V(s) f32[B] of observations f32[B, O]; None: there is no network V
    critic: Any = None


class Trained(Part):
    """A part whose networks learn by Adam. All parts of a learner have the same `max_grad_norm`."""

    max_grad_norm: Numeric = traced(
        jnp.inf, POSITIVE_OR_OFF, "Gradients with a larger norm are scaled down to this norm; inf: never."
    )

    def at(self, state: Any) -> Self:
        """The part with the hyperparameters that it has found beside its network: none, or XQL's beta."""
        return self

    def minimize(self, state: S, objective: Callable, learning_rate: Numeric) -> tuple[S, Metrics]:
        """One Adam step on objective(params) -> (scalar, metrics); the gradient's global norm is clipped."""
        gradients, metrics = jax.grad(objective, has_aux=True)(state.params)
        shrink = jnp.minimum(1.0, self.max_grad_norm / (optax.tree.norm(gradients) + 1e-12))
        shrink = jnp.where(jnp.isinf(self.max_grad_norm), 1.0, shrink)  # the norm itself may overflow
        gradients = jax.tree.map(lambda gradient: gradient * shrink, gradients)
        return state.stepped(gradients, learning_rate), metrics


class ValueFit(Trained):
    """Base value fit: V goes to the mean of its targets. Subclasses override `loss_of`, or `fit` for more."""

    value_lr: Numeric = rate_setting(3e-4, "V")
    value_hidden_dims: tuple[int, ...] = static((256, 256), WIDTHS, "Widths of the hidden layers of V.")
    layer_norm: bool = static(False, EITHER, "Normalise the hidden layers of V.")
    v_updates: int = static(1, AT_LEAST_ONE, "Gradient steps of V on each minibatch.")
    value_init: Initializer = internal(iql_init)

    def loss_of(self, values: Array, targets: Array) -> Array:
        """The method's loss of V(s) f32[B] against its targets f32[B]; the caller takes the mean."""
        return mse_loss(values, targets)

    def init(self, key: PRNGKey, observations: Array) -> NetworkState:
        network = Value(self.value_hidden_dims, self.layer_norm, self.value_init)
        return NetworkState.create(network, network.init(key, observations))

    def fit(
        self, value: Any, observations: Array, targets: Array, loss: Loss | None = None
    ) -> tuple[Any, Metrics]:
        """Takes `v_updates` steps of V(s) towards f32[B], on the mean of the loss; default: `loss_of`."""
        loss = loss or self.at(value).loss_of

        def mean_loss(params):
            v = value.apply(params, observations)
            value_loss = checked(loss(v, targets), loss, v, targets).mean()
            return value_loss, {"value/loss": value_loss, "value/v": v.mean()}

        for _ in range(self.v_updates):
            value, info = self.minimize(value, mean_loss, self.value_lr)
        return value, info

    def follow(self, value: Any, q: Array, v: Array) -> tuple[Any, Metrics]:
        """What is learned beside the network, from Q(s, a) and V(s) f32[B] of the data's actions: nothing."""
        return value, {}

    def v_and_q_targets(self, value: Any, batch: AnyBatch, discount: Numeric) -> tuple[Array, Array, Numeric]:
        """V(s), Q's targets r + discount * V(s'), both f32[B], and what advantages are divided by."""
        # One pass over s and s': two of half the size are slower on a CPU.
        v, next_v = jnp.split(value(jnp.concatenate([batch.observations, batch.next_observations])), 2)
        return v, td_target(batch.rewards, batch.masks, next_v, discount=discount), 1.0


class Critic(Trained):
    """Q networks and their gradient steps."""

    critic_lr: Numeric = rate_setting(3e-4, "Q")
    critic_hidden_dims: tuple[int, ...] = static((256, 256), WIDTHS, "Widths of the hidden layers of Q.")
    num_critics: int = static(2, AT_LEAST_ONE, "Number of critics. Their minimum is used.")
    critic_layer_norm: bool = static(False, EITHER, "Normalise the hidden layers of Q.")
    critic_weight_decay: Numeric = traced(
        0.0,
        NOT_NEGATIVE,
        "Decoupled weight decay (AdamW's) of Q's kernels: a step shrinks them by this share of critic_lr.",
        neutral=0.0,
    )
    critic_init: Initializer = internal(iql_init)

    def loss_of(self, values: Array, targets: Array) -> Array:
        """The loss of Q(s, a) f32[B] against its targets f32[B]; the caller takes the mean."""
        return mse_loss(values, targets)

    def init(self, keys: Sequence[PRNGKey], observations: Array, actions: Array) -> CriticState:
        """The first state, with a target; one network per key."""
        network = Value(self.critic_hidden_dims, self.critic_layer_norm, self.critic_init)
        params = tuple(network.init(key, observations, actions) for key in keys)
        return CriticState.create(network, params).with_target()

    def minimize(self, state: S, objective: Callable, learning_rate: Numeric) -> tuple[S, Metrics]:
        """`Trained.minimize` with weight decay, which no moment of Adam sees (Loshchilov & Hutter 2019)."""
        stepped, metrics = super().minimize(state, objective, learning_rate)
        share = learning_rate * self.critic_weight_decay
        shrink = functools.partial(less_of_kernel, share=share)
        params = jax.tree_util.tree_map_with_path(shrink, stepped.params, state.params)
        return stepped.replace(params=params), metrics

    def fit(
        self, critic: CriticState, batch: AnyBatch, targets: Array, loss: Loss | None = None
    ) -> tuple[CriticState, Metrics]:
        """One step of every Q(s, a) towards f32[B], on the sum of their mean losses; default: `loss_of`."""
        loss = loss or self.at(critic).loss_of

        def summed_loss(params):
            qs = critic.each(params, batch.observations, batch.actions)
            losses = jnp.stack([checked(loss(q, targets), loss, q, targets) for q in qs])
            critic_loss = losses.mean(axis=1).sum()
            return critic_loss, {"critic/loss": critic_loss, "critic/q": qs[0].mean()}

        return self.minimize(critic, summed_loss, self.critic_lr)


def less_of_kernel(path: tuple, new: Array, old: Array, share: Numeric) -> Array:
    """The new array at this path less a share of the old; if it is no kernel, such as a bias, the new one."""
    name = getattr(path[-1], "key", "") if path else ""
    if name == WITH_BIAS:  # an accelerator's form: the last row is the bias
        share = jnp.where(jnp.arange(old.shape[-2])[:, None] < old.shape[-2] - 1, share, 0.0)
    return new - share * old if name in ("kernel", WITH_BIAS) else new


def checked(losses: Array, loss: Loss, values: Array, targets: Array) -> Array:
    """The losses of values f32[B]; a loss of one's own must be one number an example, f32[B], too."""
    if not is_ours(loss):
        check_each(
            losses, targets, f"{named(loss)} of values {[*values.shape]} and targets {[*targets.shape]}"
        )
    return losses


def check_each(numbers: Any, examples: Array, what: str) -> None:
    """Raises UserError, while tracing, unless there is one number for each of the examples f32[B].

    With others a mean is a number, too, but of pairs that do not belong together, or of nothing.
    """
    if jnp.shape(numbers) != examples.shape:
        raise UserError(
            f"{what}: not one number an example, {[*examples.shape]}, but {[*jnp.shape(numbers)]}"
        )


def policy_widths(*default: int) -> tuple[int, ...]:
    return static(default, WIDTHS, "Widths of the hidden layers of the policy.")


class Gaussian(Part):
    """IQL's head: the mean is a tanh, the standard deviation does not depend on the state."""

    actor_hidden_dims: tuple[int, ...] = policy_widths(256, 256)
    dropout_rate: float = static(0.0, BELOW_ONE, "Dropout of the policy's hidden layers in training.")
    policy_network: Callable[..., nn.Module] = internal(GaussianPolicy)

    def network(self, action_dim: int) -> nn.Module:
        return self.policy_network(action_dim, self.actor_hidden_dims, self.dropout_rate)


class PolicyPart(Trained):
    """Base of the parts that learn a policy."""

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> NetworkState:
        raise NotImplementedError

    def actor(self, state: LearnerState) -> NetworkState:
        """A policy's function from states to distributions over actions, out of its learner's state."""
        return NetworkState(state.policy.network, state.policy.params)


class Estimates(NamedTuple):
    """Q and V of a batch, as policy objectives use them."""

    q: Array  # f32[B], Q(s, a) of the data's actions
    v: Array  # f32[B], V(s)
    scale: Numeric = 1.0  # divides advantages, f32[] or f32[B]: 1, or a method's own, in reward units
    q_of: QFunction = None  # type: ignore[assignment]  # None: there is no Q


def carried_out(batch: AnyBatch) -> Array | None:
    """f32[B, A], 1 for the entries of the actions that were carried out; None: all. See `ChunkBatch`."""
    if not isinstance(batch, ChunkBatch):
        return None
    return jnp.repeat(batch.valid, batch.actions.shape[-1] // batch.valid.shape[-1], axis=-1)


def where_carried_out(values: Array, batch: AnyBatch) -> Array:
    """The values f32[B, A] for the batch's actions; 0 for entries that were not carried out."""
    known = carried_out(batch)
    return values if known is None else values * known


class PolicyObjective(PolicyPart):
    """Base policy objective: subclasses write `update` and may add state."""

    head: Gaussian = part(Gaussian)
    actor_lr: Numeric = rate_setting(3e-4, "the policy")
    decay_actor_lr: bool = static(True, EITHER, "Let actor_lr fall to 0 over --max_steps.")
    actor_decay_steps: Numeric | np.float32 = internal(np.float32(np.inf), leaf=True)  # inf: no decay

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> NetworkState:
        network = self.head.network(actions.shape[-1])
        return NetworkState.create(network, network.init(key, observations))

    def update(self, actor: Any, estimates: Estimates, batch: AnyBatch, key: PRNGKey) -> tuple[Any, Metrics]:
        """One step of the policy on the objective."""
        raise NotImplementedError

    def regress(self, actor: S, weights: Array, batch: AnyBatch, key: PRNGKey) -> tuple[S, Metrics]:
        """One step on -weight * log pi(a|s), averaged over the batch; weights f32[B]."""
        check_each(weights, batch.rewards, f"the weights of {named(type(self))}")

        def loss(params):
            policy = actor.in_training(params, batch.observations, key)
            log_probs = policy.log_prob(batch.actions, carried_out(batch))
            check_each(log_probs, batch.rewards, f"{named(type(policy))}.log_prob")
            actor_loss = -(weights * log_probs).mean()
            return actor_loss, {"actor/loss": actor_loss, "actor/log_prob": log_probs.mean()}

        return self.minimize(actor, loss, self.rate(actor))

    def clone(self, actor: S, batch: AnyBatch, key: PRNGKey) -> tuple[S, Metrics]:
        """One step of maximum likelihood: `regress` with weight 1 for every action."""
        return self.regress(actor, jnp.ones_like(batch.rewards), batch, key)

    def scheduled(self, steps: float) -> Self:
        end = np.float32(steps if self.decay_actor_lr else np.inf)
        return self.replace(actor_decay_steps=end)

    def rate(self, actor: NetworkState) -> Array:
        """The learning rate of the actor's next step, f32[]: it falls along a half cosine, if it decays."""
        progress = jnp.minimum(actor.optimizer_state.count / self.actor_decay_steps, 1.0)
        return self.actor_lr * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


class WeightedCloning(PolicyObjective):
    """Base of the objectives that clone the data's actions, weighted by their advantages (Q - V) / scale."""

    policy_nats: Numeric = traced(
        0.0,
        NOT_NEGATIVE,
        "Weights the actions that are cloned by exp((Q - V) * T), where T holds the divergence of a "
        "minibatch's weights from the data, in nats; 0: by the method's own weights.",
        finds="awr_temperature",
        neutral=0.0,
    )
    max_weight: Numeric = traced(
        100.0,
        POSITIVE_OR_OFF,
        "Largest weight of an action in the policy's loss, with policy_nats in units of the mean; inf: no "
        "bound.",
    )

    def own_weights(self, advantages: Array) -> tuple[Array, Numeric]:
        """The method's own weights f32[B] of advantages f32[B], and the temperature in them, 0 without."""
        raise NotImplementedError

    def update(self, actor: Any, estimates: Estimates, batch: AnyBatch, key: PRNGKey) -> tuple[Any, Metrics]:
        advantages = jax.lax.stop_gradient((estimates.q - estimates.v) / estimates.scale)
        is_held = self.policy_nats > 0.0
        own, held = (
            self.own_weights(advantages),
            held_weights(advantages, nats=self.policy_nats, most=self.max_weight),
        )
        weights, temperature = (jnp.where(is_held, *pair) for pair in zip(held, own, strict=True))
        actor, info = self.regress(actor, weights, batch, key)
        info |= {"actor/advantage": advantages.mean(), "actor/weight": weights.mean()}
        divergence = weights_divergence(weights)
        return actor, {**info, "actor/awr_temperature": temperature, "actor/divergence": divergence}


class ForwardKL(WeightedCloning):
    """Advantage-weighted regression (Eq. 12): the policy nearest in forward KL to mu * weight, normalised.

    The weight is min(exp(awr_temperature * (Q - V) / scale), max_weight), or that of `policy_nats`.
    """

    awr_temperature: Numeric = temperature_setting()

    def own_weights(self, advantages: Array) -> tuple[Array, Numeric]:
        temperature, most = self.awr_temperature, self.max_weight
        return advantage_weight(advantages, awr_temperature=temperature, max_weight=most), temperature


class PolicyLearner(Part):
    """A learner whose part `policy` gives a distribution over actions."""

    batch_type: ClassVar[type] = Batch  # what it learns from

    def actor(self, state: LearnerState) -> NetworkState:
        return self.policy.actor(state)  # type: ignore[attr-defined]  # every subclass has one

    def act(self, actor: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """Actions f32[B, A] within [-1, 1] for observations f32[B, O]: a clipped sample, or the centre."""
        distribution = actor(observations)
        if deterministic:
            return distribution.central_action()
        return jnp.clip(distribution.sample(key), -1.0, 1.0)
