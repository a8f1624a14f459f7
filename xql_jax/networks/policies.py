"""The Gaussian policy of IQL and XQL."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from xql_jax.networks.mlp import MLP, iql_init
from xql_jax.types import Array, PRNGKey

LOG_STD_RANGE = (-5.0, 2.0)


class DiagonalGaussian(NamedTuple):
    """A normal distribution with independent components."""

    mean: Array  # f32[..., A]
    std: Array  # f32[A] or f32[..., A]

    def log_prob(self, actions: Array) -> Array:
        """Log density, nats: f32[..., A] -> f32[...]."""
        return jax.scipy.stats.norm.logpdf(actions, self.mean, self.std).sum(-1)

    def central_action(self) -> Array:
        return self.mean

    def sample(self, key: PRNGKey) -> Array:
        return self.mean + self.std * jax.random.normal(key, self.mean.shape)


class GaussianPolicy(nn.Module):
    """f32[B, O] -> Gaussian over f32[B, A]: mean tanh(MLP(s)) without a squash correction, state-independent
    log-std within [-5, 2], as in the authors' code."""

    action_dim: int
    hidden_dims: tuple[int, ...]
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, observations: Array, training: bool = False) -> DiagonalGaussian:
        x = MLP(self.hidden_dims, dropout_rate=self.dropout_rate)(observations, training)
        mean = jnp.tanh(nn.Dense(self.action_dim, kernel_init=iql_init)(x))
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        return DiagonalGaussian(mean, jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE)))
