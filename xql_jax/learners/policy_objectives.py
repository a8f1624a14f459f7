"""Policies beside XQL's own: other heads, and objectives that maximise Q at sampled actions (Eq. 13)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from xql_jax.learners import parts
from xql_jax.learners.actor_critic import at_each
from xql_jax.learners.method import temperature_setting
from xql_jax.learners.parts import Estimates, NetworkState, QFunction
from xql_jax.losses.divergence import sampled_kl
from xql_jax.networks import policies
from xql_jax.settings import ABOVE_ZERO, AT_LEAST_ONE, NOT_NEGATIVE, static, traced
from xql_jax.types import AnyBatch, Array, Metrics, Numeric, PRNGKey

# IQL's head, but with a standard deviation that depends on the state; Onestep RL's, where it also begins at
# 0.08 and stays below 1; SAC's, the tanh of a Gaussian, with the density corrected for the tanh.
StateGaussian = functools.partial(parts.Gaussian, policy_network=policies.StateGaussianPolicy)
NarrowGaussian = functools.partial(parts.Gaussian, policy_network=policies.NarrowGaussianPolicy)
Squashed = functools.partial(parts.Gaussian, policy_network=policies.TanhGaussianPolicy)


class Mixture(parts.Gaussian):
    """Mixture of Gaussians, for data in which different ways lead to the goal."""

    num_components: int = static(5, AT_LEAST_ONE, "Number of Gaussians of a mixture policy.")

    def network(self, action_dim: int) -> nn.Module:
        widths = self.actor_hidden_dims
        return policies.MixturePolicy(action_dim, widths, self.num_components, self.dropout_rate)


def expected_q(drawn: policies.Draws, q_of: QFunction, observations: Array, limit: float = 1.0) -> Array:
    """E Q(s, a) over the policy's actions, f32[B]; beyond ±limit they are clipped, and have no gradient."""
    actions = jnp.clip(drawn.actions, -limit, limit)
    return (drawn.weights * q_of(at_each(observations, actions), actions)).sum(0)


class AnchoredState(NetworkState, kw_only=True):
    """The actor, and the policy mu that it is kept near."""

    anchor: NetworkState


class ReverseKL(parts.PolicyObjective):
    """Policy nearest in reverse KL to mu * exp(Q / beta), where mu is a clone of the data's policy.

    It minimises E_pi [log pi - log mu - awr_temperature * Q]. The clone is trained in the same updates. The
    expectation is over the policy's own actions, so Q is evaluated at actions that may not be in the data.

    Source: Garg et al. 2023, Eq. 13.
    Differs: awr_temperature takes the place of 1 / beta, as in `ForwardKL`.
    """

    awr_temperature: Numeric = temperature_setting()

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> AnchoredState:
        key_actor, key_anchor = jax.random.split(key)
        actor = super().init(key_actor, observations, actions)
        anchor = super().init(key_anchor, observations, actions)
        return AnchoredState.create(actor.network, actor.params, anchor=anchor)

    def update(
        self, actor: AnchoredState, estimates: Estimates, batch: AnyBatch, key: PRNGKey
    ) -> tuple[AnchoredState, Metrics]:
        key_anchor, key_actor = jax.random.split(key)
        anchor, _ = self.clone(actor.anchor, batch, key_anchor)
        return self.maximize_q(actor.replace(anchor=anchor), estimates, batch, key_actor)

    def maximize_q(
        self, actor: AnchoredState, estimates: Estimates, batch: AnyBatch, key: PRNGKey
    ) -> tuple[AnchoredState, Metrics]:
        """One step of the policy on the objective; mu does not change."""
        key_dropout, key_draw = jax.random.split(key)
        mu = actor.anchor(batch.observations)

        def loss(params):
            policy = actor.in_training(params, batch.observations, key_dropout)
            drawn = policies.draws(policy, key_draw)
            kl = sampled_kl(drawn.log_probs, drawn.log_probs_of(mu), drawn.weights).mean()
            q = (expected_q(drawn, estimates.q_of, batch.observations) / estimates.scale).mean()
            actor_loss = kl - self.awr_temperature * q
            return actor_loss, {"actor/loss": actor_loss, "actor/kl": kl}

        return self.minimize(actor, loss, self.rate(actor))


class TrustRegion(ReverseKL):
    """`ReverseKL` with mu a slow copy of the policy itself, so that each step stays near the last ones.

    The first `cloning_updates` updates only clone the data, because there is no earlier policy to stay near.
    """

    cloning_updates: Numeric = traced(
        5000.0, NOT_NEGATIVE, "Updates at the start in which the policy only clones the data."
    )
    anchor_tau: Numeric = traced(0.001, ABOVE_ZERO, "Polyak rate of the policy's slow copy.")

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> AnchoredState:
        actor = super().init(key, observations, actions)
        copied = jax.tree.map(jnp.copy, actor.params)  # the compiled loop may not be given one buffer twice
        return actor.replace(anchor=actor.anchor.replace(params=copied))

    def update(
        self, actor: AnchoredState, estimates: Estimates, batch: AnyBatch, key: PRNGKey
    ) -> tuple[AnchoredState, Metrics]:
        def clone(actor: AnchoredState) -> tuple[AnchoredState, Metrics]:
            actor, info = self.clone(actor, batch, key)
            followed = actor.anchor.replace(params=actor.params)
            info = {"actor/loss": info["actor/loss"], "actor/kl": jnp.zeros(())}
            return actor.replace(anchor=followed), info

        def maximize(actor: AnchoredState) -> tuple[AnchoredState, Metrics]:
            actor, info = self.maximize_q(actor, estimates, batch, key)
            followed = optax.incremental_update(actor.params, actor.anchor.params, self.anchor_tau)
            return actor.replace(anchor=actor.anchor.replace(params=followed)), info

        return jax.lax.cond(actor.optimizer_state.count < self.cloning_updates, clone, maximize, actor)


class MaxQ(parts.PolicyObjective):
    """Policy that maximises Q and clones the data: TD3+BC's objective for any head.

    It minimises -q_weight * E_pi Q(s, a) / mean |Q(s, a)| - log pi(a|s) of the data's actions. The mean is a
    constant for gradients. Dividing by it makes the balance of the two terms independent of the rewards'
    scale.

    Source: Fujimoto & Gu 2021, Eq. 3 and 5.
    Differs: cloning maximises the head's log-likelihood; theirs minimises the squared error of a
    deterministic action.
    """

    q_weight: Numeric = traced(
        2.5, NOT_NEGATIVE, "Weight of Q relative to cloning the data; 0: only cloning."
    )

    def update(self, actor: Any, estimates: Estimates, batch: AnyBatch, key: PRNGKey) -> tuple[Any, Metrics]:
        key_dropout, key_draw = jax.random.split(key)
        unit = jax.lax.stop_gradient(jnp.abs(estimates.q / estimates.scale).mean() + 1e-6)

        def loss(params):
            policy = actor.in_training(params, batch.observations, key_dropout)
            drawn = policies.draws(policy, key_draw)
            q = (expected_q(drawn, estimates.q_of, batch.observations) / estimates.scale).mean() / unit
            log_prob = policy.log_prob(batch.actions, parts.carried_out(batch)).mean()
            actor_loss = -self.q_weight * q - log_prob
            return actor_loss, {"actor/loss": actor_loss, "actor/log_prob": log_prob}

        return self.minimize(actor, loss, self.rate(actor))
