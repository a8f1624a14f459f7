"""The policies of online learning: SAC's tanh of a Gaussian, and TD3's deterministic one."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from xql_jax.networks.mlp import MLP, Initializer
from xql_jax.networks.policies import LOG_STD_RANGE, DiagonalGaussian, Draws, softly_bounded
from xql_jax.types import Array, PRNGKey

LARGEST_ACTION = 1.0 - 1e-5  # D4RL's data are clipped to this, too; arctanh is finite here


def sac_init(key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Kernel initialisation of Yarats & Kostrikov (2020): orthogonal, gain 1."""
    return nn.initializers.orthogonal(1.0)(key, shape, dtype)


def td3_init(key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Kernel initialisation of PyTorch, which Fujimoto et al. (2018) use: uniform within 1 / sqrt(inputs)."""
    return nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")(key, shape, dtype)


class TanhGaussian(NamedTuple):
    """The distribution of tanh(u), component by component, for a Gaussian u."""

    gaussian: DiagonalGaussian  # of u

    def central_action(self) -> Array:
        """The tanh of the mean of u, f32[..., A]: the median of every component."""
        return jnp.tanh(self.gaussian.mean)

    def sample(self, key: PRNGKey) -> Array:
        return jnp.tanh(self.gaussian.sample(key))

    def log_prob(self, actions: Array) -> Array:
        """Log density, nats: f32[..., A] -> f32[...]; actions at the bounds count as just within them."""
        return self.log_prob_at(jnp.arctanh(jnp.clip(actions, -LARGEST_ACTION, LARGEST_ACTION)))

    def draws(self, key: PRNGKey) -> Draws:
        """One action, f32[1, ..., A]."""
        actions, log_probs = self.sample_and_log_prob(key)
        return Draws(actions[None], log_probs[None], jnp.ones_like(log_probs)[None])

    def sample_and_log_prob(self, key: PRNGKey) -> tuple[Array, Array]:
        """One action f32[..., A] and its log density f32[...]; gradients flow through both."""
        u = self.gaussian.sample(key)
        return jnp.tanh(u), self.log_prob_at(u)

    def log_prob_at(self, u: Array) -> Array:
        """Log density of the action tanh(u), nats: f32[..., A] -> f32[...].

        It takes u instead of the action, because tanh(u) is 1 in float32 from u = 9 on. For the same reason
        log(1 - tanh(u)^2) is written in a form without cancellation.
        """
        log_slope = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
        return self.gaussian.log_prob(u) - log_slope.sum(-1)


class TanhGaussianPolicy(nn.Module):
    """SAC's policy: f32[B, O] -> distribution over f32[B, A] within [-1, 1].

    Mean and log-std both depend on the state; a tanh brings log-std into [-5, 2], as in pytorch_sac and the
    authors' code.
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, observations: Array, training: bool = False) -> TanhGaussian:
        x = MLP(self.hidden_dims, dropout_rate=self.dropout_rate, kernel_init=sac_init)(
            observations, training
        )
        mean, x = jnp.split(nn.Dense(2 * self.action_dim, kernel_init=sac_init)(x), 2, axis=-1)
        return TanhGaussian(DiagonalGaussian(mean, jnp.exp(softly_bounded(x, *LOG_STD_RANGE))))


class DeterministicPolicy(nn.Module):
    """TD3's policy: f32[B, O] -> f32[B, A] within [-1, 1]."""

    action_dim: int
    hidden_dims: tuple[int, ...]
    kernel_init: Initializer = td3_init

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        x = MLP(self.hidden_dims, kernel_init=self.kernel_init)(observations)
        return jnp.tanh(nn.Dense(self.action_dim, kernel_init=self.kernel_init)(x))
