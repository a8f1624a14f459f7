"""Extreme Q-learning (Garg et al. 2023): Algorithm 1, with V fitted to Q by Gumbel regression.

`InSample.update` is the algorithm, and `value=GumbelFit` makes it XQL. With other parts it is other methods.
Hyperparameters: the paper's Table 4, in suites/d4rl.py. Where the authors' code differs: docs/differences.md.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.method import Method, Part, discount_setting, tau_setting
from xql_jax.learners.nats import HeldScale
from xql_jax.learners.parts import LearnerState
from xql_jax.losses import gumbel
from xql_jax.losses.regression import huber_loss, mse_loss
from xql_jax.settings import NOT_NEGATIVE, POSITIVE, POSITIVE_OR_OFF, choice, part, static, traced
from xql_jax.types import AnyBatch, Array, Metrics, Numeric, PRNGKey


class GumbelRegression(Part):
    """A part that fits its network to beta * log E[exp(targets / beta)], their soft maximum."""

    of: ClassVar[str] = "value"  # the network, in the names of metrics

    beta: Numeric = traced(2.0, POSITIVE, "Gumbel scale; if small, near the largest target.")
    beta_nats: Numeric = traced(
        0.0,
        NOT_NEGATIVE,
        "Finds beta: the weights exp((Q - V) / beta) are held at this divergence from the data, in nats, and "
        "beta is where it begins; 0: beta stays.",
        finds="beta",
    )
    clip: Numeric = traced(7.0, POSITIVE_OR_OFF, "Bound on (target - fit) / beta; inf: none.")
    loss: Callable[..., Array] = choice(
        "Form of the Gumbel loss. rescaled: divided by exp of the batch's largest exponent (App. D.3); "
        "plain: as in Eq. 11; log: the logarithm of 1 + its mean; normalized: divided by the batch's mean "
        "of max(1, exp(z)).",
        **gumbel.LOSSES,
    )
    clip_rule: gumbel.ClipRule = choice(
        "Effect of the clip. both: no gradient beyond +-clip; above: none beyond +clip; saturate: beyond "
        "+clip the loss continues as its tangent.",
        **gumbel.CLIP_RULES,
    )

    def loss_of(self, values: Array, targets: Array) -> Array:
        # `self.loss` is --loss, by default `gumbel_rescaled_loss`.
        return self.loss(values, targets, beta=self.beta, clip=self.clip, clip_rule=self.clip_rule)

    def beta_of(self, held: HeldScale) -> Array:
        """The beta of the next update: `self.beta`, or where `beta_nats` > 0 the beta that was found."""
        return held.scale(self.beta_nats, self.beta)

    def at(self, state: Any) -> Self:
        return self.replace(beta=self.beta_of(state.held))

    def followed(self, held: HeldScale, values: Array, targets: Array) -> tuple[HeldScale, Metrics]:
        """The state of beta after a minibatch, and metrics; values f32[..., B], targets f32[B]."""
        beta = self.beta_of(held)
        z = jax.lax.stop_gradient((targets - values) / beta)
        held, divergence = held.follow(z, self.beta_nats, self.beta)
        # Its mean over the actions in a state is 1 where the fit is right.
        weight = jnp.exp(jnp.minimum(z, self.clip)).mean()
        numbers = {"beta": beta, "divergence": divergence, "weight": weight}
        return held, {f"{self.of}/{name}": number for name, number in numbers.items()}


class GumbelState(parts.NetworkState, kw_only=True):
    """The network V, and the beta to which it is fitted."""

    held: HeldScale


class GumbelFit(GumbelRegression, parts.ValueFit):
    """Fits V to beta * log E[exp(Q / beta)], the soft maximum of Q (Eq. 11).

    `ValueFit.fit` (parts.py) takes gradient steps on `loss_of` with the beta of `at`, by `Trained.minimize`.
    """

    def init(self, key: PRNGKey, observations: Array) -> GumbelState:
        value = super().init(key, observations)
        held = HeldScale.create(self.beta, self.beta_nats)
        return GumbelState(value.network, value.params, value.optimizer_state, held=held)

    def follow(self, value: Any, q: Array, v: Array) -> tuple[Any, Metrics]:
        held, metrics = self.followed(value.held, v, q)
        return value.replace(held=held), metrics


class TemporalDifference(parts.Critic):
    """Critics fitted to r + discount * V(s') (Eq. 14) by squared errors or, as in their code, Huber losses.

    Squared errors are averaged over the networks, Huber losses summed: two networks' are the same near 0.
    """

    critic_loss: parts.Loss = choice(
        "Loss of Q: mse (averaged over critics) or huber (summed over them).", mse=mse_loss, huber=huber_loss
    )

    def loss_of(self, values: Array, targets: Array) -> Array:
        loss = self.critic_loss(values, targets)
        return loss if self.critic_loss is huber_loss else loss / self.num_critics


class InSample(parts.PolicyLearner):
    """Algorithm 1 in three parts: how V is fitted, how the policy is extracted, how Q is fitted."""

    value: parts.ValueFit = part(GumbelFit)  # XQL's; IQL has `Expectile`; `ValueFit` fits the mean
    policy: parts.PolicyObjective = part(parts.ForwardKL)
    critic: parts.Critic = part(TemporalDifference)
    discount: Numeric = discount_setting()
    tau: Numeric = tau_setting()
    uniform_actions: int = static(
        0, NOT_NEGATIVE, "Uniformly random actions that are added to V's loss, per action of the data."
    )
    action_noise: float = static(
        0.0, NOT_NEGATIVE, "Standard deviation of the noise on the data's actions in V's loss."
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        key_policy, key_value, *keys_critic = jax.random.split(key, 2 + self.critic.num_critics)
        policy = self.policy.init(key_policy, observations, actions)
        value = self.value.init(key_value, observations)
        critic = self.critic.init(keys_critic, observations, actions)
        return LearnerState(jnp.zeros((), jnp.int32), policy, value, critic)

    def update(self, state: LearnerState, batch: AnyBatch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates V, then pi, then Q and its target: the authors' order; the paper prints Q, V, pi."""
        key_value, key_policy = jax.random.split(key)
        target_q = state.critic.at_target().min_q
        q = target_q(batch.observations, batch.actions)

        # V goes to Q of the data's actions (Eq. 11, by `GumbelRegression`), or of others: near them, random.
        observations, value_targets = batch.observations, q
        if self.uniform_actions or self.action_noise:
            observations, actions = smoothed(batch, key_value, self.uniform_actions, self.action_noise)
            value_targets = target_q(observations, actions)
        value, value_info = self.value.fit(state.value, observations, value_targets)

        # pi imitates the data's actions, weighted by Q - V (Eq. 12); Q goes to r + discount * V(s') (Eq. 14).
        v, q_targets, scale = self.value.v_and_q_targets(value, batch, self.discount)
        estimates = parts.Estimates(q, v, scale, target_q)
        value, scale_info = self.value.follow(value, q, v)
        policy, policy_info = self.policy.update(state.policy, estimates, batch, key_policy)
        critic, critic_info = self.critic.fit(state.critic, batch, q_targets)

        state = LearnerState(state.step + 1, policy, value, critic.polyak_update(self.tau))
        return state, {**value_info, **scale_info, **policy_info, **critic_info}


def smoothed(batch: AnyBatch, key: PRNGKey, uniform_actions: int, action_noise: float) -> tuple[Array, Array]:
    """States and actions: the data's actions with clipped Gaussian noise, then uniform ones."""
    key_noise, key_uniform = jax.random.split(key)
    noise = action_noise * jax.random.normal(key_noise, batch.actions.shape)
    noisy = jnp.clip(batch.actions + jnp.clip(noise, -0.5, 0.5), -1.0, 1.0)  # 0.5: the authors' code
    shape = (uniform_actions * batch.actions.shape[0], batch.actions.shape[1])
    uniform = jax.random.uniform(key_uniform, shape, minval=-1.0, maxval=1.0)
    return jnp.tile(batch.observations, (1 + uniform_actions, 1)), jnp.concatenate([noisy, uniform])


METHODS = {"xql": Method(InSample, value=GumbelFit)}
