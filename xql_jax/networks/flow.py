"""Velocity networks, and the flows that they make: Gaussian noise carried to actions along an ODE."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from xql_jax.networks.mlp import Initializer
from xql_jax.types import Array

flow_init: Initializer = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")  # seohongpark/fql's


class Velocity(nn.Module):
    """v(s, x, t) f32[..., A], of f32[..., O], f32[..., A] and f32[..., 1]; without t a one-step policy.

    A hidden layer is Dense, GELU, optional LayerNorm, as in seohongpark/fql, utils/networks.py.
    """

    action_dim: int
    hidden_dims: tuple[int, ...]
    layer_norm: bool = False

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        x = jnp.concatenate(inputs, axis=-1)
        for width in self.hidden_dims:
            x = nn.gelu(nn.Dense(width, kernel_init=flow_init)(x))
            if self.layer_norm:
                x = nn.LayerNorm()(x)
        return nn.Dense(self.action_dim, kernel_init=flow_init)(x)


def integrate(velocity: Callable[..., Array], observations: Array, noise: Array, steps: int) -> Array:
    """Takes Euler's steps along v(s, x, t) from noise f32[..., A] at t = 0 to actions at t = 1, within ±1."""
    x = noise
    for step in range(steps):
        t = jnp.full((*noise.shape[:-1], 1), step / steps)
        x = x + velocity(observations, x, t) / steps
    return jnp.clip(x, -1.0, 1.0)
