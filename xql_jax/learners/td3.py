"""TD3 (Fujimoto et al. 2018) and X-TD3 (Garg et al. 2023), with Q fitted by Gumbel regression.

X-TD3 is Q iteration for deterministic dynamics: Q goes to r + discount * Q(s', a'). `beta` is the scale of
the regression. Eq. 42 prints this scale as discount * beta, and Appendix C.1 renames it beta'. It is also the
beta of the authors' code and of Table 6. The soft value that Q learns has scale beta / discount.

Source: Fujimoto et al. 2018, Algorithm 1; Garg et al. 2023, Eq. 41 and 42, Lemma C.1, Sec. 3.5 (Online RL),
Appendix D.6, Table 5.
The initial kernels are orthogonal in the authors' released runs of TD3 and X-TD3 (`ortho_init: true`),
uniform in Fujimoto et al.'s. PyTorch draws the biases from the same range, too; here they begin at 0.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from xql_jax.learners import parts
from xql_jax.learners.actor_critic import Delayed, every
from xql_jax.learners.method import Method, rate_setting
from xql_jax.learners.nats import HeldScale
from xql_jax.learners.parts import CriticState, LearnerState, NetworkState
from xql_jax.learners.xql import GumbelRegression
from xql_jax.networks.mlp import Initializer
from xql_jax.networks.policies import DeterministicPolicy, sac_init, td3_init
from xql_jax.settings import NOT_NEGATIVE, choice, internal, part, traced
from xql_jax.types import AnyBatch, Array, Metrics, Numeric, Params, PRNGKey


class DeterministicState(NetworkState, kw_only=True):
    """The actor, and the metrics of its last update; 0 before the first."""

    metrics: Metrics


class DeterministicActor(parts.PolicyPart):
    """A deterministic policy with a target network."""

    actor_lr: Numeric = rate_setting(1e-3, "the policy")
    actor_hidden_dims: tuple[int, ...] = parts.policy_widths(256, 256)
    actor_init: Initializer = internal(td3_init)

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> DeterministicState:
        network = DeterministicPolicy(actions.shape[-1], self.actor_hidden_dims, self.actor_init)
        metrics = {"actor/loss": jnp.zeros(())}
        state = DeterministicState.create(network, network.init(key, observations), metrics=metrics)
        return state.with_target()


class DelayedDeterministic(Delayed):
    """TD3; TD3+BC and ReBRAC have other losses of the policy."""

    policy: DeterministicActor = part(DeterministicActor)
    critic: parts.Critic = part(functools.partial(parts.Critic, critic_init=td3_init))
    target_noise: Numeric = traced(
        0.2, NOT_NEGATIVE, "Standard deviation of the noise on the action in Q's targets."
    )
    target_noise_clip: Numeric = traced(
        0.5, NOT_NEGATIVE, "Bound on the noise that is added to the action in Q's targets."
    )
    # Table 5 has 0.05 for Hopper.
    exploration_noise: Numeric = traced(
        0.1, NOT_NEGATIVE, "Standard deviation of the noise on actions that collect data."
    )

    def target_actions(self, policy: NetworkState, observations: Array, key: PRNGKey) -> Array:
        """The target actor's actions with clipped Gaussian noise, f32[B, A] within [-1, 1]."""
        actions = policy.at_target()(observations)
        noise = self.target_noise * jax.random.normal(key, actions.shape)
        noise = jnp.clip(noise, -self.target_noise_clip, self.target_noise_clip)
        return jnp.clip(actions + noise, -1.0, 1.0)

    def fit_q(self, state: LearnerState, batch: AnyBatch, key: PRNGKey) -> tuple[CriticState, Metrics]:
        """One step of Q towards the minimum of the target critics at the target actor's noisy action."""
        next_actions = self.target_actions(state.policy, batch.next_observations, key)
        next_q = state.critic.at_target().min_q(batch.next_observations, next_actions)
        return self.fit_critic(state, batch, next_q)

    def actor_loss(self, critic: CriticState, batch: AnyBatch, actions: Array) -> Array:
        """The loss of the policy's actions f32[B, A], a scalar: TD3's is minus the first Q."""
        return -critic.apply(critic.params[0], batch.observations, actions).mean()

    def update(self, state: LearnerState, batch: AnyBatch, key: PRNGKey) -> tuple[LearnerState, Metrics]:
        """Updates Q, then pi by its loss with the new Q, then the targets; the last two only if due."""
        step = state.step + 1
        critic, critic_info = self.fit_q(state, batch, key)

        def improve(policy: DeterministicState) -> DeterministicState:
            def loss(params):
                actor_loss = self.actor_loss(critic, batch, policy.apply(params, batch.observations))
                return actor_loss, {"actor/loss": actor_loss}

            policy, metrics = self.policy.minimize(policy, loss, self.policy.actor_lr)
            return policy.replace(metrics=metrics)

        policy = every(self.actor_period, step, improve, state.policy)
        state = LearnerState(step, self.follow(policy, step), critic=self.follow(critic, step))
        return state, {**critic_info, **policy.metrics}

    def act(self, actor: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """The policy's actions; with Gaussian exploration noise, and clipped, if not `deterministic`."""
        actions = actor(observations)
        if deterministic:
            return actions
        noise = self.exploration_noise * jax.random.normal(key, actions.shape)
        return jnp.clip(actions + noise, -1.0, 1.0)


class TD3(DelayedDeterministic):
    """TD3 with a choice of initial kernels."""

    kernel_init: Initializer = choice(
        "Initial kernels: orthogonal of gain 1, or uniform (1 / sqrt(inputs)).",
        orthogonal=sac_init,
        uniform=td3_init,
    )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> LearnerState:
        policy = self.policy.replace(actor_init=self.kernel_init)
        critic = self.critic.replace(critic_init=self.kernel_init)
        initialized = self.replace(policy=policy, critic=critic)
        return DelayedDeterministic.init(initialized, key, observations, actions)


class GumbelCriticState(CriticState, kw_only=True):
    """The critics, and the beta to which they are fitted."""

    held: HeldScale


class GumbelCritic(GumbelRegression, parts.Critic):
    """X-TD3's critics, fitted to L^beta of their targets (Eq. 9, 42); all else is TD3's."""

    of: ClassVar[str] = "critic"

    def init(self, keys: Sequence[PRNGKey], observations: Array, actions: Array) -> GumbelCriticState:
        critic = super().init(keys, observations, actions)
        held = HeldScale.create(self.beta, self.beta_nats)
        return GumbelCriticState(
            critic.network, critic.params, critic.optimizer_state, critic.target, held=held
        )

    def fit(
        self, critic: Any, batch: AnyBatch, targets: Array, loss: parts.Loss | None = None
    ) -> tuple[Any, Metrics]:
        held, metrics = self.followed(critic.held, critic.all_q(batch.observations, batch.actions), targets)
        critic, info = super().fit(critic, batch, targets)
        return critic.replace(held=held), {**info, **metrics}


OF_TD3 = {"critic_lr": 1e-3}
OF_XTD3 = {**OF_TD3, "clip": 8.0}  # of z = (target - Q) / beta, Appendix D.6
DQ = {"num_critics": 1}  # TD3 - DQ: without the double Q trick
WARM_UP = {"warmup_steps": 1_000}
METHODS = {
    "td3": Method(TD3, OF_TD3, settings=WARM_UP),
    "td3_dq": Method(TD3, {**OF_TD3, **DQ}, settings=WARM_UP),
    "xtd3": Method(TD3, OF_XTD3, settings=WARM_UP, critic=GumbelCritic),
    "xtd3_dq": Method(TD3, {**OF_XTD3, **DQ}, settings=WARM_UP, critic=GumbelCritic),
}
