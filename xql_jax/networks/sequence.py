"""The causal transformer of Decision Transformer, over returns-to-go, observations and actions."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from xql_jax.types import Array, Windows

GPT2_INIT = nn.initializers.normal(0.02)  # GPT-2's, of every kernel and embedding
EPSILON = 1e-5  # of layer norms, PyTorch's


def product_of_tokens(
    tokens: Array, kernel: Array, dimensions: jax.lax.DotDimensionNumbers, **options: Any
) -> Array:
    """`jax.lax.dot_general` of tokens [B, T, ...] and a layer's kernel, as one product of two matrices.

    XLA's CPU compiler multiplies two matrices fast. Left as it is, the kernel's gradient is a sum over two
    dimensions, B and T, and the layer takes twice as long.
    """
    (of_tokens, of_kernel), _ = dimensions
    leading, features = tokens.shape[: of_tokens[0]], kernel.shape[len(of_kernel) :]
    size = math.prod(kernel.shape[: len(of_kernel)])
    matrices = tokens.reshape(-1, size), kernel.reshape(size, -1)
    product = jax.lax.dot_general(*matrices, (((1,), (0,)), ((), ())), **options)
    return product.reshape(*leading, *features)


Dense = functools.partial(nn.Dense, kernel_init=GPT2_INIT, dot_general=product_of_tokens)


class Block(nn.Module):
    """GPT-2's layer: attention, then a perceptron four times as wide, each with a residual connection."""

    num_heads: int
    dropout_rate: float

    @nn.compact
    def __call__(self, x: Array, mask: Array, training: bool) -> Array:
        dropout = nn.Dropout(self.dropout_rate, deterministic=not training)
        normalized = nn.LayerNorm(epsilon=EPSILON)(x)
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads,
            dropout_rate=self.dropout_rate,
            deterministic=not training,
            broadcast_dropout=False,
            kernel_init=GPT2_INIT,
            qkv_dot_general=product_of_tokens,
            out_dot_general=product_of_tokens,
        )
        x = x + dropout(attention(normalized, mask=mask))
        width = x.shape[-1]
        hidden = nn.relu(Dense(4 * width)(nn.LayerNorm(epsilon=EPSILON)(x)))
        return x + dropout(Dense(width)(hidden))


class DecisionTransformerPolicy(nn.Module):
    """Decision Transformer's network: windows -> actions f32[B, K, A] within [-1, 1].

    Each step has three tokens in this order: return-to-go, observation, action. The action at a step is
    predicted from its observation's token, so it depends on this token and earlier tokens, except padding.
    """

    action_dim: int
    embed_dim: int
    num_layers: int
    num_heads: int
    dropout_rate: float
    max_timesteps: int

    @nn.compact
    def __call__(self, windows: Windows, training: bool = False) -> Array:
        size, length = windows.known.shape
        timesteps = jnp.minimum(windows.timesteps, self.max_timesteps - 1)
        times = nn.Embed(self.max_timesteps, self.embed_dim, embedding_init=GPT2_INIT)(timesteps)
        inputs = windows.returns_to_go[..., None], windows.observations, windows.actions
        embedded = [Dense(self.embed_dim)(x) + times for x in inputs]
        tokens = jnp.stack(embedded, axis=2).reshape(size, 3 * length, self.embed_dim)
        x = nn.LayerNorm(epsilon=EPSILON)(tokens)
        x = nn.Dropout(self.dropout_rate, deterministic=not training)(x)
        known = jnp.repeat(windows.known, 3, axis=1)
        mask = nn.make_causal_mask(known) * known[:, None, None, :]
        for _ in range(self.num_layers):
            x = Block(self.num_heads, self.dropout_rate)(x, mask, training)
        x = nn.LayerNorm(epsilon=EPSILON)(x)
        of_observations = x.reshape(size, length, 3, self.embed_dim)[:, :, 1]
        return jnp.tanh(Dense(self.action_dim)(of_observations))
