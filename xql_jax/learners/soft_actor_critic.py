"""The skeleton Q -> V -> pi of soft actor-critics (SAC and X-SAC)."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, cast

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.learners.off_policy import OffPolicy, every
from xql_jax.learners.train_state import TrainState, static
from xql_jax.losses.critic import mse_loss, td_target
from xql_jax.networks.mlp import StateValue, sac_init
from xql_jax.networks.squashed_policies import TanhGaussian, TanhGaussianPolicy
from xql_jax.types import Array, Batch, Metrics, Numeric, Params, PRNGKey


@flax.struct.dataclass
class SoftActorCriticState:
    step: Array  # i32[], updates done
    actor: TrainState
    critic: TrainState  # its params are a tuple with one entry a critic
    value: TrainState | None  # None: there is no network V
    target: Params  # of what Q learns from: of V, or where there is none of the critics
    log_entropy_coef: TrainState  # its params are f32[]
    actor_metrics: Metrics  # of the actor's last update; 0 before the first


@flax.struct.dataclass
class SoftActorCritic(OffPolicy):
    """Q, then V, then an entropy-regularised policy, then the target; what V learns is left to two holes.

    Q is fitted to r + discount * V(s') with a target network V, Eq. 14; V to `value_targets` at actions of
    the current policy; the policy maximises min Q - entropy_coef * log pi. The coefficient is tuned so that
    the policy's entropy is -A nats, A the number of the action's components.

    Source: Garg et al. 2023, Algorithm 1, Sec. 3.5 (Online RL), Appendix D.6; order, losses and the target
    network as in the authors' code; defaults: Table 5, and where it is silent that code.
    Differs: that code updates the actor every second time by default, Table 5 every time.
    """

    kernel_init: ClassVar[Callable] = staticmethod(sac_init)
    actor_lr: Numeric = 1e-4
    critic_lr: Numeric = 1e-4
    value_lr: Numeric = 1e-4
    entropy_coef_lr: Numeric = 1e-4
    initial_entropy_coef: Numeric = 0.1  # reward units per nat
    hidden_dims: tuple[int, ...] = static((1024, 1024))
    actor_period: int = static(1)

    def value_loss(self, values: Array, targets: Array) -> Array:
        """The method's own loss of V(s) f32[B] against `value_targets` f32[B]; the caller takes the mean."""
        raise NotImplementedError

    def value_targets(self, q: Array, log_probs: Array, entropy_coef: Array) -> Array:
        """What V(s) learns from, f32[B]: from min Q(s, a) and log pi(a|s), both f32[B], with a ~ pi(.|s)."""
        raise NotImplementedError

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> SoftActorCriticState:
        key_actor, key_value, *keys_critic = jax.random.split(key, 2 + self.num_critics)
        critic = self.init_critic(keys_critic, observations, actions)
        value = self.init_value(key_value, observations)
        zero = jnp.zeros(())
        return SoftActorCriticState(
            step=jnp.zeros((), jnp.int32),
            actor=TrainState.create(self.policy(actions.shape[-1]).init(key_actor, observations)),
            critic=critic,
            value=value,
            # A shared buffer could not be donated.
            target=jax.tree.map(jnp.copy, self.followed(critic, value)),
            log_entropy_coef=TrainState.create(jnp.log(jnp.asarray(self.initial_entropy_coef, jnp.float32))),
            actor_metrics={"actor/loss": zero, "actor/entropy": zero},
        )

    def update(
        self, state: SoftActorCriticState, batch: Batch, key: PRNGKey
    ) -> tuple[SoftActorCriticState, Metrics]:
        """Q, then V to the new Q, then pi by the new Q, the coefficient by pi's entropy, and the target."""
        key_next, key_actions = jax.random.split(key)
        step = state.step + 1
        next_v = self.next_values(state, batch.next_observations, key_next)
        targets = td_target(batch.rewards, batch.masks, next_v, discount=self.discount)
        critic, critic_info = self.fit_critic(state.critic, batch, targets, mse_loss)
        state = dataclasses.replace(state, step=step, critic=critic)

        # V and pi see the same actions, drawn before pi moves. Where both are always due, the compiler sees
        # that too, and computes these and their Q once.
        value, value_info = self.update_value(state, batch.observations, key_actions)
        actor, log_entropy_coef, actor_info = every(
            self.actor_period,
            step,
            lambda held: self.update_actor(*held[:2], critic.params, batch.observations, key_actions),
            (state.actor, state.log_entropy_coef, state.actor_metrics),
        )
        state = dataclasses.replace(
            state,
            actor=actor,
            value=value,
            target=self.follow(state.target, self.followed(critic, value), step),
            log_entropy_coef=log_entropy_coef,
            actor_metrics=actor_info,
        )
        coefficient_info = {"entropy_coef": jnp.exp(log_entropy_coef.params)}
        return state, {**critic_info, **value_info, **actor_info, **coefficient_info}

    def init_value(self, key: PRNGKey, observations: Array) -> TrainState | None:
        return TrainState.create(self.value_network.init(key, observations))

    def followed(self, critic: TrainState, value: TrainState | None) -> Params:
        """The parameters that the target network follows."""
        assert value is not None
        return value.params

    def next_values(self, state: SoftActorCriticState, observations: Array, key: PRNGKey) -> Array:
        """The V(s') that Q learns from, f32[B]."""
        return self.v(state.target, observations)

    def update_value(
        self, state: SoftActorCriticState, observations: Array, key: PRNGKey
    ) -> tuple[TrainState | None, Metrics]:
        assert state.value is not None
        targets = self.sampled_values(state, state.critic.params, observations, key)

        def loss(params):
            v = self.v(params, observations)
            value_loss = self.value_loss(v, targets).mean()
            return value_loss, {"value/loss": value_loss, "value/v": v.mean()}

        return state.value.minimize(loss, learning_rate=self.value_lr, max_grad_norm=self.max_grad_norm)

    def sampled_values(
        self, state: SoftActorCriticState, critic: Params, observations: Array, key: PRNGKey
    ) -> Array:
        """`value_targets` at one fresh action of the policy in each state, f32[B]."""
        actions, log_probs = self.distribution(state.actor.params, observations).sample_and_log_prob(key)
        q = self.min_q(critic, observations, actions)
        return self.value_targets(q, log_probs, jnp.exp(state.log_entropy_coef.params))

    def update_actor(
        self,
        actor: TrainState,
        log_entropy_coef: TrainState,
        critic: Params,
        observations: Array,
        key: PRNGKey,
    ) -> tuple[TrainState, TrainState, Metrics]:
        """One step of the policy, and one of the coefficient by the entropy that the policy had before."""

        def actor_loss(params):
            actions, log_probs = self.distribution(params, observations).sample_and_log_prob(key)
            q = self.min_q(critic, observations, actions)
            loss = (jnp.exp(log_entropy_coef.params) * log_probs - q).mean()
            return loss, {"actor/loss": loss, "actor/entropy": -log_probs.mean()}

        def coefficient_loss(log_coef):
            return jnp.exp(log_coef) * (info["actor/entropy"] - target_entropy), {}

        target_entropy = -self.action_dim(actor.params)
        norm = self.max_grad_norm
        actor, info = actor.minimize(actor_loss, learning_rate=self.actor_lr, max_grad_norm=norm)
        log_entropy_coef, _ = log_entropy_coef.minimize(
            coefficient_loss, learning_rate=self.entropy_coef_lr, max_grad_norm=norm
        )
        return actor, log_entropy_coef, info

    def act_with(self, params: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """A sample of the policy, or the tanh of its Gaussian's mean."""
        distribution = self.distribution(params, observations)
        return distribution.central_action() if deterministic else distribution.sample(key)

    def distribution(self, params: Params, observations: Array) -> TanhGaussian:
        """pi(.|s) under the actor's `params`."""
        policy: Any = self.policy(self.action_dim(params))
        return policy.apply(params, observations)

    def policy(self, action_dim: int) -> TanhGaussianPolicy:
        return TanhGaussianPolicy(action_dim, self.hidden_dims)

    def action_dim(self, params: Params) -> int:
        """A, from the actor's parameters: its last layer gives mean and log-std."""
        return params["params"]["Dense_0"]["bias"].shape[-1] // 2

    def v(self, params: Params, observations: Array) -> Array:
        """V(s) under `params`, f32[B]."""
        return cast(Array, self.value_network.apply(params, observations))

    @property
    def value_network(self) -> StateValue:
        return StateValue(self.hidden_dims, kernel_init=self.kernel_init)
