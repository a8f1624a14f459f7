"""Flow policies, which hold pi* = mu * exp(Q / beta) / Z for any mu, also one with several modes.

A velocity v(s, x, t) is fitted by flow matching to a - x_0 at x_t = (1 - t) x_0 + t a, with x_0 standard
normal, t uniform and a from the data; the ODE dx/dt = v carries noise to actions.
Source: Lipman et al. 2023, "Flow Matching for Generative Modeling"; Park et al. 2025, "Flow Q-Learning".
Hyperparameters: seohongpark/fql, agents/fql.py, lines 252 to 267 (10 steps, no decay of the rate; the loss of
the one-step policy: lines 46 to 83), and agents/ifql.py, lines 60 to 74 and 123 to 155 (the best of 32
samples by min Q), which is `iql+flow`. Their `alpha` is 10 with Q in reward units; for new tasks they advise
(README.md, "Tips") Q in units of its mean size and 0.03 to 10, as here by default.
Differs: a deterministic action is chosen among flows of the same noise vectors in all states, the first of
them 0; theirs draws noise anew. So it is a function of the state alone, and can be exported. Their IFQL also
collects by the best of 32. There Q learns from V before V's step, and the target critics follow Q before Q's
step; here both follow the new networks. It adds the critics' squared errors, here they are averaged. V and Q
there have GELU and then layer norm, here layer norm and then ReLU.
"""

import functools
from typing import Any, Self

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.actor_critic import at_each, chosen
from xql_jax.learners.method import Part, named, temperature_setting
from xql_jax.learners.parts import CriticState, Estimates, LearnerState, NetworkState, S
from xql_jax.learners.td3_bc import normalized_mean
from xql_jax.networks.flow import Velocity, integrate
from xql_jax.settings import AT_LEAST_ONE, EITHER, NOT_NEGATIVE, internal, part, static, traced
from xql_jax.types import AnyBatch, Array, Metrics, Numeric, Params, PRNGKey


class FlowHead(Part):
    """The velocity network, and how its ODE is solved."""

    actor_hidden_dims: tuple[int, ...] = parts.policy_widths(256, 256)
    actor_layer_norm: bool = static(False, EITHER, "Normalise the hidden layers of the policy.")
    flow_steps: int = static(10, AT_LEAST_ONE, "Euler's steps from noise to an action.")

    def network(self, action_dim: int) -> Velocity:
        return Velocity(action_dim, self.actor_hidden_dims, self.actor_layer_norm)


class FlowActor(NetworkState, kw_only=True):
    """A flow, the critics that choose among its actions, and the policy's hyperparameters.

    Called with observations f32[B, O], it is a `Distribution` in these states, but without a density.
    """

    critic: CriticState | None  # None: there is one candidate
    policy: "FlowPolicy"
    observations: Array = None  # type: ignore[assignment]  # before it is called

    def __call__(self, observations: Array) -> Self:  # type: ignore[override]
        return self.replace(observations=observations)

    def central_action(self) -> Array:
        """The best by the critics of the actions to which `fixed_noise` is carried."""
        count = self.policy.candidates
        fixed = fixed_noise(count, self.network.action_dim)
        noise = jnp.broadcast_to(fixed[:, None], (count, self.observations.shape[0], fixed.shape[-1]))
        if count == 1:
            return self.carried(noise[0])
        actions, q = self.judged(noise)
        return chosen(actions, q.argmax(0))

    def sample(self, key: PRNGKey) -> Array:
        return self.policy.sample(self, key)

    def carried(self, noise: Array) -> Array:
        """The actions f32[..., B, A] to which noise f32[..., B, A] is carried."""
        observations = jnp.broadcast_to(self.observations, (*noise.shape[:-1], self.observations.shape[-1]))
        return self.policy.carry(self, observations, noise)

    def judged(self, noise: Array) -> tuple[Array, Array]:
        """The actions of noise f32[N, B, A], and the minimum of their Q, f32[N, B]."""
        actions, critic = self.carried(noise), self.critic
        assert critic is not None
        return actions, critic.min_q(at_each(self.observations, actions), actions)

    def noise(self, key: PRNGKey, *count: int) -> Array:
        return jax.random.normal(key, (*count, self.observations.shape[0], self.network.action_dim))


class FlowPolicy(parts.PolicyObjective):
    """A policy that carries noise to actions. Its deterministic action is the best of several by min Q."""

    head: FlowHead = part(FlowHead)  # type: ignore[assignment]
    decay_actor_lr: bool = static(False, EITHER, "Let actor_lr fall to 0 over --max_steps.")
    candidates: int = static(
        32,
        AT_LEAST_ONE,
        "The policy takes the action of the largest Q among this many; `flow` also samples among them.",
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> NetworkState:
        network = self.head.network(actions.shape[-1])
        return NetworkState.create(network, network.init(key, observations, actions, actions[..., :1]))

    def actor(self, state: LearnerState) -> FlowActor:
        critic = None if state.critic is None else CriticState(state.critic.network, state.critic.params)
        # What updates alone read is infinite if off, and a state with this actor would count as diverged.
        finite = jax.tree.map(lambda leaf: jnp.where(jnp.isinf(leaf), 1.0, leaf), self)
        return FlowActor(state.policy.network, state.policy.params, critic=critic, policy=finite)

    def carry(self, actor: NetworkState, observations: Array, noise: Array) -> Array:
        """The actions f32[..., A] to which noise f32[..., A] is carried in the states f32[..., O]."""
        velocity = functools.partial(actor.apply, actor.params)
        return integrate(velocity, observations, noise, self.head.flow_steps)

    def sample(self, distribution: FlowActor, key: PRNGKey) -> Array:
        """Actions drawn from the policy, f32[B, A]."""
        return distribution.carried(distribution.noise(key))

    def regress(self, actor: S, weights: Array, batch: AnyBatch, key: PRNGKey) -> tuple[S, Metrics]:
        """One step of flow matching, the batch's actions weighted by f32[B]."""
        parts.check_each(weights, batch.rewards, f"the weights of {named(type(self))}")

        def loss(params):
            actor_loss = matching_loss(actor, params, weights, batch, key)
            return actor_loss, {"actor/loss": actor_loss}

        return self.minimize(actor, loss, self.rate(actor))


def matching_loss(flow: NetworkState, params: Params, weights: Array, batch: AnyBatch, key: PRNGKey) -> Array:
    """The mean over the batch and the actions' entries of weight * (v(s, x_t, t) - (a - x_0))^2."""
    key_noise, key_time = jax.random.split(key)
    noise = jax.random.normal(key_noise, batch.actions.shape)
    t = jax.random.uniform(key_time, (len(noise), 1))
    actions = parts.where_carried_out(batch.actions, batch)  # else the flow would see, and use, the others
    velocity = flow.apply(params, batch.observations, (1.0 - t) * noise + t * actions, t)
    errors = parts.where_carried_out(jnp.square(velocity - (actions - noise)), batch)
    return (weights * errors.mean(-1)).mean()


def fixed_noise(count: int, action_dim: int) -> Array:
    """Noise vectors f32[N, A] that never change: 0, then draws of a standard normal distribution."""
    return jax.random.normal(jax.random.key(0), (count, action_dim)).at[0].set(0.0)


class CloningFlow(FlowPolicy):
    """The flow of `bc+flow`: without Q nothing chooses among its actions."""

    candidates: int = internal(1)


class Flow(FlowPolicy):
    """A flow that clones the data. Actions are drawn among several in proportion to exp(awr_temperature * Q).

    With many candidates that is a draw from mu * exp(awr_temperature * Q) / Z.
    """

    awr_temperature: Numeric = temperature_setting()

    def update(self, actor: Any, estimates: Estimates, batch: AnyBatch, key: PRNGKey) -> tuple[Any, Metrics]:
        return self.clone(actor, batch, key)

    def sample(self, distribution: FlowActor, key: PRNGKey) -> Array:
        key_noise, key_choice = jax.random.split(key)
        actions, q = distribution.judged(distribution.noise(key_noise, self.candidates))
        return chosen(actions, jax.random.categorical(key_choice, self.awr_temperature * q, axis=0))


class WeightedFlow(FlowPolicy, parts.ForwardKL):
    """`ForwardKL` for flows: flow matching weighted by min(exp(awr_temperature * A / scale), max_weight)."""

    candidates: int = static(1, AT_LEAST_ONE)


class OneStepFlow(FlowPolicy):
    """FQL's policy mu(s, z): it maximises Q, and stays near the actions of a flow that clones the data.

    It minimises flow_alpha * (mu(s, z) - flow(s, z))^2 - Q(s, mu(s, z)), averaged over noise z.
    """

    candidates: int = static(1, AT_LEAST_ONE)
    flow_alpha: Numeric = traced(
        1.0, NOT_NEGATIVE, "Weight of the one-step policy's squared distance from the flow."
    )
    normalize_q: bool = static(
        True, EITHER, "In the one-step policy's loss, divide Q by its mean size over the batch."
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> NetworkState:
        key_flow, key_one_step = jax.random.split(key)
        network = self.head.network(actions.shape[-1])
        flow = network.init(key_flow, observations, actions, actions[..., :1])
        return NetworkState.create(network, (flow, network.init(key_one_step, observations, actions)))

    def carry(self, actor: NetworkState, observations: Array, noise: Array) -> Array:
        return jnp.clip(actor.apply(actor.params[1], observations, noise), -1.0, 1.0)

    def update(self, actor: Any, estimates: Estimates, batch: AnyBatch, key: PRNGKey) -> tuple[Any, Metrics]:
        key_match, key_noise = jax.random.split(key)
        noise = jax.random.normal(key_noise, batch.actions.shape)
        equal_weights = jnp.ones_like(batch.rewards)
        velocity = functools.partial(actor.apply, actor.params[0])
        carried = integrate(velocity, batch.observations, noise, self.head.flow_steps)

        def loss(params):
            flow, one_step = params
            matching = matching_loss(actor, flow, equal_weights, batch, key_match)
            actions = actor.apply(one_step, batch.observations, noise)
            distance = jnp.square(actions - carried).mean()
            q = estimates.q_of(batch.observations, jnp.clip(actions, -1.0, 1.0)) / estimates.scale
            gain = normalized_mean(q) if self.normalize_q else q.mean()
            info = {"actor/loss": matching, "actor/distance": distance, "actor/q": q.mean()}
            return matching + self.flow_alpha * distance - gain, info

        return self.minimize(actor, loss, self.rate(actor))
