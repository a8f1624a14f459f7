"""The skeleton V -> pi -> Q of methods that learn from data actions only (XQL, IQL and their kin)."""

from collections.abc import Callable
from typing import cast

import flax.struct
import jax
import jax.numpy as jnp
import optax

from xql_jax.learners.policy_regression import PolicyRegression
from xql_jax.learners.train_state import TrainState, static
from xql_jax.losses.actor import exponential_advantage_weight
from xql_jax.losses.critic import mse_loss, td_target
from xql_jax.networks.mlp import ActionValue, StateValue
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey

ACTION_NOISE_CLIP = 0.5  # of the noise that smooths the value loss, as in the authors' code


@flax.struct.dataclass
class InSampleState:
    step: Array  # i32[], updates done
    actor: TrainState
    critic: TrainState  # its params are a tuple with one entry a critic
    value: TrainState
    target_critic: Params


@flax.struct.dataclass
class InSample(PolicyRegression):
    """V, then pi, then Q from dataset actions only; a method is this skeleton with its own value loss,
    and where it needs one its own policy weight.

    Source: Garg et al. 2023, Algorithm 1, in the order of the authors' code: the paper prints Q, V, pi.
    """

    value_lr: Numeric = 3e-4
    critic_lr: Numeric = 3e-4
    discount: Numeric = 0.99
    tau: Numeric = 0.005  # Polyak rate of the target critics, per update
    awr_temperature: Numeric = 3.0  # 1 / reward units, multiplies the advantage
    max_weight: Numeric = 100.0  # cap of the AWR weight
    num_critics: int = static(2)
    layer_norm: bool = static(False)  # on V
    v_updates: int = static(1)  # steps on V, on the same batch, per update
    uniform_actions: int = static(0)  # per data action, added to the value loss
    action_noise: float = static(0.0)  # std of the noise on the value loss's actions, clipped to 0.5
    critic_loss: Callable[[Array, Array], Array] = static(mse_loss)  # per example; Eq. 14

    def value_loss(self, values: Array, targets: Array) -> Array:
        """The method's own loss of V(s) f32[B] against Q(s, a) f32[B]; the caller takes the mean."""
        raise NotImplementedError

    def policy_weight(self, advantages: Array) -> Array:
        """How much each data action counts in the policy's regression, f32[B] from Q - V f32[B]; Eq. 12."""
        return exponential_advantage_weight(
            advantages, awr_temperature=self.awr_temperature, max_weight=self.max_weight
        )

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> InSampleState:
        key_actor, key_value, *keys_critic = jax.random.split(key, 2 + self.num_critics)
        critic = tuple(self.critic_network.init(k, observations, actions) for k in keys_critic)
        return InSampleState(
            step=jnp.zeros((), jnp.int32),
            actor=self.init_actor(key_actor, observations, actions),
            critic=TrainState.create(critic),
            value=TrainState.create(self.value_network.init(key_value, observations)),
            target_critic=jax.tree.map(jnp.copy, critic),  # a shared buffer could not be donated
        )

    def update(self, state: InSampleState, batch: Batch, key: PRNGKey) -> tuple[InSampleState, Metrics]:
        """One iteration of Algorithm 1: V, then pi, then Q, then the target."""
        key_value, key_actor = jax.random.split(key)
        q = self.min_q(state.target_critic, batch.observations, batch.actions)  # f32[B]
        value, value_info = self.update_value(state.value, state.target_critic, q, batch, key_value)

        # The new V at s and at s' in one pass: on CPU two passes of half the size are slower.
        both = jnp.concatenate([batch.observations, batch.next_observations])
        v, next_v = jnp.split(self.v(value.params, both), 2)
        weights = self.policy_weight(q - v)
        actor, actor_info = self.update_actor(state.actor, batch, weights, state.step, key_actor)
        critic, critic_info = self.update_critic(state.critic, next_v, batch)

        target_critic = optax.incremental_update(critic.params, state.target_critic, self.tau)
        state = InSampleState(
            step=state.step + 1, actor=actor, critic=critic, value=value, target_critic=target_critic
        )
        advantage_info = {"actor/advantage": (q - v).mean(), "actor/weight": weights.mean()}
        return state, {**value_info, **actor_info, **advantage_info, **critic_info}

    def update_value(
        self, value: TrainState, target_critic: Params, q: Array, batch: Batch, key: PRNGKey
    ) -> tuple[TrainState, Metrics]:
        observations = batch.observations
        if self.uniform_actions or self.action_noise:
            observations, actions = self.smoothed(observations, batch.actions, key)
            q = self.min_q(target_critic, observations, actions)

        def loss(params):
            v = self.v(params, observations)
            value_loss = self.value_loss(v, q).mean()
            return value_loss, {"value/loss": value_loss, "value/v": v.mean()}

        for _ in range(self.v_updates):
            value, info = value.minimize(loss, learning_rate=self.value_lr, max_grad_norm=self.max_grad_norm)
        return value, info

    def update_critic(self, critic: TrainState, next_v: Array, batch: Batch) -> tuple[TrainState, Metrics]:
        target = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)

        def loss(params):
            qs = [self.q(p, batch.observations, batch.actions) for p in params]
            critic_loss = sum(self.critic_loss(q, target).mean() for q in qs) / self.num_critics
            return critic_loss, {"critic/loss": critic_loss, "critic/q": qs[0].mean()}

        return critic.minimize(loss, learning_rate=self.critic_lr, max_grad_norm=self.max_grad_norm)

    def values(self, state: InSampleState, observations: Array) -> Array:
        """V(s), f32[B], reward units, for observations f32[B, O]."""
        return self.v(state.value.params, observations)

    def min_q(self, critic: Params, observations: Array, actions: Array) -> Array:
        """The least of the critics' Q(s, a), f32[B]."""
        qs = [self.q(params, observations, actions) for params in critic]
        return jnp.stack(qs).min(axis=0)

    def smoothed(self, observations: Array, actions: Array, key: PRNGKey) -> tuple[Array, Array]:
        """Data actions with Gaussian noise, then `uniform_actions` uniform ones each, with their states."""
        key_noise, key_uniform = jax.random.split(key)
        noise = self.action_noise * jax.random.normal(key_noise, actions.shape)
        noisy = jnp.clip(actions + jnp.clip(noise, -ACTION_NOISE_CLIP, ACTION_NOISE_CLIP), -1.0, 1.0)
        shape = (self.uniform_actions * actions.shape[0], actions.shape[1])
        uniform = jax.random.uniform(key_uniform, shape, minval=-1.0, maxval=1.0)
        repeated = jnp.tile(observations, (1 + self.uniform_actions, 1))
        return repeated, jnp.concatenate([noisy, uniform])

    def v(self, params: Params, observations: Array) -> Array:
        """V(s) under `params`, f32[B]."""
        return cast(Array, self.value_network.apply(params, observations))

    def q(self, params: Params, observations: Array, actions: Array) -> Array:
        """Q(s, a) of the one critic with `params`, f32[B]."""
        return cast(Array, self.critic_network.apply(params, observations, actions))

    @property
    def value_network(self) -> StateValue:
        return StateValue(self.hidden_dims, self.layer_norm)

    @property
    def critic_network(self) -> ActionValue:
        return ActionValue(self.hidden_dims)
