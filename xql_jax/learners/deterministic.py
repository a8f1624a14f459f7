"""What TD3 and its kin share: a deterministic policy, noise, and delayed updates of policy and targets."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners import fields
from xql_jax.learners.actor_critic import Delayed, every
from xql_jax.learners.parts import Critic, LearnerState, Model, Trained, TrainState
from xql_jax.networks.mlp import Initializer
from xql_jax.networks.policies import DeterministicPolicy, td3_init
from xql_jax.types import Array, Metrics, Numeric, PRNGKey


class DeterministicState(TrainState):
    """The actor's state, and the metrics of its last update; 0 before the first."""

    metrics: Any = None


@flax.struct.dataclass
class DeterministicActor(Trained):
    """A deterministic policy with a target network."""

    actor_lr: Numeric = fields.traced(1e-3, fields.POSITIVE)
    actor_hidden_dims: tuple[int, ...] = fields.widths(256, 256)
    actor_init: Initializer = fields.internal(td3_init)

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> DeterministicState:
        network = DeterministicPolicy(actions.shape[-1], self.actor_hidden_dims, self.actor_init)
        metrics = {"actor/loss": jnp.zeros(())}
        return DeterministicState.create(network, network.init(key, observations), True, metrics=metrics)

    def update(
        self, policy: DeterministicState, observations: Array, loss_of: Callable[[Array], Array]
    ) -> DeterministicState:
        """One step on loss_of(actions), a scalar, at the policy's actions f32[B, A]."""

        def loss(params):
            actor_loss = loss_of(policy.at(params, observations))
            return actor_loss, {"actor/loss": actor_loss}

        policy, info = self.minimize(policy, loss, self.actor_lr)
        return policy.replace(metrics=info)


@flax.struct.dataclass
class DelayedDeterministic(Delayed):
    """Fields and steps of TD3 and its kin. Each method writes its own `update`."""

    policy: DeterministicActor = fields.part(DeterministicActor)
    critic: Critic = fields.part(functools.partial(Critic, critic_init=td3_init))
    target_noise: Numeric = fields.traced(
        0.2, fields.NOT_NEGATIVE, "Standard deviation of the noise on the action in Q's targets."
    )
    target_noise_clip: Numeric = fields.traced(
        0.5, fields.NOT_NEGATIVE, "Bound on the noise that is added to the action in Q's targets."
    )
    exploration_noise: Numeric = fields.traced(
        0.1, fields.NOT_NEGATIVE, "Standard deviation of the noise on actions that collect data."
    )  # Table 5 has 0.05 for Hopper

    def target_actions(self, policy: DeterministicState, observations: Array, key: PRNGKey) -> Array:
        """The target actor's actions with clipped Gaussian noise, f32[B, A] within [-1, 1]."""
        actions = policy.at(policy.target, observations)
        noise = self.target_noise * jax.random.normal(key, actions.shape)
        noise = jnp.clip(noise, -self.target_noise_clip, self.target_noise_clip)
        return jnp.clip(actions + noise, -1.0, 1.0)

    def improve(
        self,
        state: LearnerState,
        critic: TrainState,
        observations: Array,
        actor_loss: Callable[[Array], Array],
    ) -> tuple[LearnerState, Metrics]:
        """Updates the policy on actor_loss(actions), if that is due, and then the targets, if that is."""
        step = state.step + 1
        policy = every(
            self.actor_period,
            step,
            lambda policy: self.policy.update(policy, observations, actor_loss),
            state.policy,
        )
        state = LearnerState(step, self.follow(policy, step), critic=self.follow(critic, step))
        return state, policy.metrics

    def act(self, actor: Model, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """The policy's actions; with Gaussian exploration noise, and clipped, if not `deterministic`."""
        actions = actor(observations)
        if deterministic:
            return actions
        noise = self.exploration_noise * jax.random.normal(key, actions.shape)
        return jnp.clip(actions + noise, -1.0, 1.0)
