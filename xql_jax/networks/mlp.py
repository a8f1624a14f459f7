"""The multi-layer perceptron, and XQL's networks, which are built on it: V(s), Q(s, a), a Gaussian policy."""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from xql_jax.types import Array, PRNGKey

Initializer = Callable[..., Array]  # of all kernels, including the last layer's; biases begin at 0
LOG_STD_RANGE = (-5.0, 2.0)
WITH_BIAS = "kernel_and_bias"  # the one array of a layer whose bias is the last row of its kernel
iql_init: Initializer = nn.initializers.orthogonal(math.sqrt(2.0))  # of IQL and XQL


class Dense(nn.Dense):
    """Flax's layer; or in one product, where an accelerator's program has joined its two arrays.

    The product takes a column of ones beside its inputs; see `in_few_kernels` of training/accelerator.py.
    """

    def __call__(self, inputs: Array) -> Array:
        if not self.has_variable("params", WITH_BIAS):
            return super().__call__(inputs)
        ones = jnp.ones_like(inputs[..., :1])
        return jnp.concatenate([inputs, ones], axis=-1) @ self.get_variable("params", WITH_BIAS)


class MLP(nn.Module):
    """Hidden layers alone: each is Dense, optional LayerNorm, ReLU, optional dropout."""

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    dropout_rate: float = 0.0
    kernel_init: Initializer = iql_init

    @nn.compact
    def __call__(self, x: Array, training: bool = False) -> Array:
        for width in self.hidden_dims:
            x = Dense(width, kernel_init=self.kernel_init)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = nn.Dropout(self.dropout_rate)(nn.relu(x), deterministic=not training)
        return x


class Value(nn.Module):
    """V(s), or with actions Q(s, a): f32[B, O] and f32[B, A] -> f32[B].

    An ensemble is a tuple of parameters: on a CPU an unrolled loop over its networks is faster than `vmap`.
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    kernel_init: Initializer = iql_init

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        x = jnp.concatenate(inputs, axis=-1)
        x = MLP(self.hidden_dims, self.layer_norm, kernel_init=self.kernel_init)(x)
        return Dense(1, kernel_init=self.kernel_init)(x).squeeze(-1)


def sum_of_known(densities: Array, known: Array | None) -> Array:
    """The sum over the last axis, of an action's entries where `known` f32[..., A] is 1; None: of all."""
    return densities.sum(-1) if known is None else (densities * known).sum(-1)


class DiagonalGaussian(NamedTuple):
    """A normal distribution with independent components."""

    mean: Array  # f32[..., A], also its central action
    std: Array  # f32[A] or f32[..., A]

    def log_prob(self, actions: Array, known: Array | None = None) -> Array:
        """Log density, nats: f32[..., A] -> f32[...]; of the entries that are `known` alone."""
        return sum_of_known(jax.scipy.stats.norm.logpdf(actions, self.mean, self.std), known)

    def central_action(self) -> Array:
        return self.mean

    def sample(self, key: PRNGKey) -> Array:
        return self.mean + self.std * jax.random.normal(key, self.mean.shape)


class GaussianPolicy(nn.Module):
    """Policy f32[B, O] -> Gaussian over f32[B, A], of mean tanh(MLP(s)) without a squash correction.

    The log-std does not depend on the state, as in the authors' code: it begins at 0, clipped to [-5, 2].
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, observations: Array, training: bool = False) -> DiagonalGaussian:
        x = MLP(self.hidden_dims, dropout_rate=self.dropout_rate)(observations, training)
        mean = jnp.tanh(Dense(self.action_dim, kernel_init=iql_init)(x))
        return DiagonalGaussian(mean, jnp.exp(self.log_std(x)))

    def log_std(self, x: Array) -> Array:
        """f32[A], or f32[B, A] if it depends on the last hidden layer f32[B, H]."""
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        return jnp.clip(log_std, *LOG_STD_RANGE)
