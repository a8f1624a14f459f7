"""TD3 (Fujimoto et al. 2018)."""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners.off_policy import OffPolicy, every
from xql_jax.learners.train_state import TrainState, static
from xql_jax.losses.critic import mse_loss, td_target
from xql_jax.networks.mlp import td3_init
from xql_jax.networks.squashed_policies import DeterministicPolicy
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey


@flax.struct.dataclass
class TD3State:
    step: Array  # i32[], updates done
    actor: TrainState
    critic: TrainState  # its params are a tuple with one entry a critic
    target_actor: Params
    target_critic: Params
    actor_metrics: Metrics  # of the actor's last update; 0 before the first


@flax.struct.dataclass
class TD3(OffPolicy):
    """Q to the least of the target critics at the target actor's noisy action; every second time the policy
    to the first Q, and the targets.

    With one critic it is what the paper calls TD3 - DQ. Kernels begin as PyTorch's do, which that code leaves
    as they are; biases at 0, where PyTorch draws them, too.

    Source: Fujimoto et al. 2018, Algorithm 1; Garg et al. 2023, Appendix D.6, Table 5.
    """

    kernel_init: ClassVar[Callable] = staticmethod(td3_init)
    target_noise: Numeric = 0.2  # std
    target_noise_clip: Numeric = 0.5
    exploration_noise: Numeric = 0.1  # std; Table 5 has 0.05 for Hopper

    def critic_loss(self, values: Array, targets: Array) -> Array:
        """The method's own loss of Q(s, a) f32[B] against its targets f32[B]; the caller takes the mean."""
        return mse_loss(values, targets)

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> TD3State:
        key_actor, *keys_critic = jax.random.split(key, 1 + self.num_critics)
        actor = TrainState.create(self.policy(actions.shape[-1]).init(key_actor, observations))
        critic = self.init_critic(keys_critic, observations, actions)
        return TD3State(
            step=jnp.zeros((), jnp.int32),
            actor=actor,
            critic=critic,
            target_actor=jax.tree.map(jnp.copy, actor.params),  # a shared buffer could not be donated
            target_critic=jax.tree.map(jnp.copy, critic.params),
            actor_metrics={"actor/loss": jnp.zeros(())},
        )

    def update(self, state: TD3State, batch: Batch, key: PRNGKey) -> tuple[TD3State, Metrics]:
        """Q, then pi by the new Q, then the targets."""
        step = state.step + 1
        next_actions = self.target_actions(state.target_actor, batch.next_observations, key)
        next_q = self.min_q(state.target_critic, batch.next_observations, next_actions)
        targets = td_target(batch.rewards, batch.masks, next_q, discount=self.discount)
        critic, critic_info = self.fit_critic(state.critic, batch, targets, self.critic_loss)
        actor, actor_info = every(
            self.actor_period,
            step,
            lambda held: self.update_actor(held[0], critic.params, batch.observations),
            (state.actor, state.actor_metrics),
        )
        state = TD3State(
            step=step,
            actor=actor,
            critic=critic,
            target_actor=self.follow(state.target_actor, actor.params, step),
            target_critic=self.follow(state.target_critic, critic.params, step),
            actor_metrics=actor_info,
        )
        return state, {**critic_info, **actor_info}

    def target_actions(self, target_actor: Params, observations: Array, key: PRNGKey) -> Array:
        """The target actor's actions with clipped Gaussian noise, f32[B, A] within [-1, 1]."""
        actions = self.actions(target_actor, observations)
        noise = self.target_noise * jax.random.normal(key, actions.shape)
        noise = jnp.clip(noise, -self.target_noise_clip, self.target_noise_clip)
        return jnp.clip(actions + noise, -1.0, 1.0)

    def update_actor(
        self, actor: TrainState, critic: Params, observations: Array
    ) -> tuple[TrainState, Metrics]:
        def loss(params):
            actor_loss = -self.q(critic[0], observations, self.actions(params, observations)).mean()
            return actor_loss, {"actor/loss": actor_loss}

        return actor.minimize(loss, learning_rate=self.actor_lr, max_grad_norm=self.max_grad_norm)

    def act_with(self, params: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """The policy's actions; with Gaussian exploration noise, and clipped, if not `deterministic`."""
        actions = self.actions(params, observations)
        if deterministic:
            return actions
        noise = self.exploration_noise * jax.random.normal(key, actions.shape)
        return jnp.clip(actions + noise, -1.0, 1.0)

    def actions(self, params: Params, observations: Array) -> Array:
        """pi(s) under the actor's `params`, f32[B, A]."""
        policy: Any = self.policy(params["params"]["Dense_0"]["bias"].shape[-1])
        return policy.apply(params, observations)

    def policy(self, action_dim: int) -> DeterministicPolicy:
        return DeterministicPolicy(action_dim, self.hidden_dims)


@flax.struct.dataclass
class SingleCriticTD3(TD3):
    """TD3 - DQ: without the double Q trick."""

    num_critics: int = static(1)
