"""The skeleton V -> pi -> Q of methods that learn from data actions only (XQL, IQL and their kin)."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax

from xql_jax.learners.advantage_regression import AdvantageRegression
from xql_jax.learners.critic_ensemble import CriticEnsemble
from xql_jax.learners.train_state import TrainState, static
from xql_jax.losses.critic import mse_loss, td_target
from xql_jax.types import Array, Batch, Metrics, Params, PRNGKey

ACTION_NOISE_CLIP = 0.5  # of the noise that smooths the value loss, as in the authors' code


@flax.struct.dataclass
class InSampleState:
    step: Array  # i32[], updates done
    actor: TrainState
    critic: TrainState  # its params are a tuple with one entry a critic
    value: TrainState
    target_critic: Params


@flax.struct.dataclass
class ValuePolicyCritic(CriticEnsemble, AdvantageRegression):
    """V, then pi, then Q from dataset actions only; what Q learns from is left to `update_critic`.

    Source: Garg et al. 2023, Algorithm 1, in the order of the authors' code: the paper prints Q, V, pi.
    """

    uniform_actions: int = static(0)  # per data action, added to the value loss
    action_noise: float = static(0.0)  # std of the noise on the value loss's actions, clipped to 0.5

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> InSampleState:
        key_actor, key_value, *keys_critic = jax.random.split(key, 2 + self.num_critics)
        critic = self.init_critic(keys_critic, observations, actions)
        return InSampleState(
            step=jnp.zeros((), jnp.int32),
            actor=self.init_actor(key_actor, observations, actions),
            critic=critic,
            value=TrainState.create(self.value_network.init(key_value, observations)),
            target_critic=jax.tree.map(jnp.copy, critic.params),  # a shared buffer could not be donated
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
        critic, critic_info = self.update_critic(state.critic, state.target_critic, next_v, batch)

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
        return self.fit_value(value, observations, q)

    def update_critic(
        self, critic: TrainState, target_critic: Params, next_v: Array, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        """One step on Q; next_v f32[B] is the new V at s'."""
        raise NotImplementedError

    def fit_critic(
        self, critic: TrainState, batch: Batch, targets: Array, loss_of: Callable[[Array, Array], Array]
    ) -> tuple[TrainState, Metrics]:
        """As in the ensemble, but averaged over the critics, as in the authors' offline code."""
        return super().fit_critic(critic, batch, targets, lambda q, t: loss_of(q, t) / self.num_critics)

    def smoothed(self, observations: Array, actions: Array, key: PRNGKey) -> tuple[Array, Array]:
        """Data actions with Gaussian noise, then `uniform_actions` uniform ones each, with their states."""
        key_noise, key_uniform = jax.random.split(key)
        noise = self.action_noise * jax.random.normal(key_noise, actions.shape)
        noisy = jnp.clip(actions + jnp.clip(noise, -ACTION_NOISE_CLIP, ACTION_NOISE_CLIP), -1.0, 1.0)
        shape = (self.uniform_actions * actions.shape[0], actions.shape[1])
        uniform = jax.random.uniform(key_uniform, shape, minval=-1.0, maxval=1.0)
        repeated = jnp.tile(observations, (1 + self.uniform_actions, 1))
        return repeated, jnp.concatenate([noisy, uniform])


@flax.struct.dataclass
class InSample(ValuePolicyCritic):
    """Q learns from r + discount * V(s'), Eq. 14. A method is this skeleton with its own value loss, and
    where it needs one its own policy weight."""

    critic_loss: Callable[[Array, Array], Array] = static(mse_loss)  # per example

    def update_critic(
        self, critic: TrainState, target_critic: Params, next_v: Array, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        targets = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)
        return self.fit_critic(critic, batch, targets, self.critic_loss)
