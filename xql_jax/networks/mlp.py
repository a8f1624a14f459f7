"""The multi-layer perceptron, and the value functions V(s) and Q(s, a) that are built on it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from xql_jax.types import Array, PRNGKey

Initializer = Callable[..., Array]  # of all kernels, including the last layer's; biases begin at 0


# A module-level function, so that objects that hold a network can be pickled.
def iql_init(key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Kernel initialisation of IQL and XQL: orthogonal, gain sqrt(2)."""
    return nn.initializers.orthogonal(math.sqrt(2.0))(key, shape, dtype)


class MLP(nn.Module):
    """Hidden layers alone: each is Dense, optional LayerNorm, ReLU, optional dropout."""

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    dropout_rate: float = 0.0
    kernel_init: Initializer = iql_init

    @nn.compact
    def __call__(self, x: Array, training: bool = False) -> Array:
        for width in self.hidden_dims:
            x = nn.Dense(width, kernel_init=self.kernel_init)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = nn.relu(x)
            x = nn.Dropout(self.dropout_rate)(x, deterministic=not training)
        return x


class Value(nn.Module):
    """V(s), or with actions Q(s, a): f32[B, O] and f32[B, A] -> f32[B].

    An ensemble is a tuple of parameters, because on a CPU an unrolled loop over its networks is faster than
    `vmap`.
    """

    hidden_dims: tuple[int, ...]
    layer_norm: bool = False
    kernel_init: Initializer = iql_init

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        x = MLP(self.hidden_dims, self.layer_norm, kernel_init=self.kernel_init)(
            jnp.concatenate(inputs, axis=-1)
        )
        return nn.Dense(1, kernel_init=self.kernel_init)(x).squeeze(-1)
