"""The multi-layer perceptron under every network, and the two kinds of value function on it."""

import math

import flax.linen as nn
import jax.numpy as jnp

from xql_jax.types import Array

ORTHOGONAL = nn.initializers.orthogonal(math.sqrt(2.0))  # IQL's and XQL's initialisation of every kernel


class MLP(nn.Module):
    """Dense, optional LayerNorm, ReLU, optional dropout, once per hidden layer."""

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x: Array, training: bool = False) -> Array:
        for width in self.hidden_dims:
            x = nn.Dense(width, kernel_init=ORTHOGONAL)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = nn.relu(x)
            x = nn.Dropout(self.dropout_rate)(x, deterministic=not training)
        return x


class StateValue(nn.Module):
    """V(s): f32[B, O] -> f32[B]."""

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        x = MLP(self.hidden_dims, self.layer_norm)(observations)
        return nn.Dense(1, kernel_init=ORTHOGONAL)(x).squeeze(-1)


class ActionValue(nn.Module):
    """Q(s, a): f32[B, O], f32[B, A] -> f32[B]. An ensemble is a tuple of parameters: on CPU, members unrolled
    run faster than members under `vmap`."""

    hidden_dims: tuple[int, ...]

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> Array:
        x = MLP(self.hidden_dims)(jnp.concatenate([observations, actions], axis=-1))
        return nn.Dense(1, kernel_init=ORTHOGONAL)(x).squeeze(-1)
