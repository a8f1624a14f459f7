"""The causal transformer of Decision Transformer, over returns-to-go, observations and actions."""

import flax.linen as nn
import jax.numpy as jnp

from xql_jax.types import Array, Windows

INIT = nn.initializers.normal(0.02)  # GPT-2's, of every kernel and embedding
EPSILON = 1e-5  # of layer norms, PyTorch's


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
            kernel_init=INIT,
        )
        x = x + dropout(attention(normalized, mask=mask))
        width = x.shape[-1]
        hidden = nn.relu(nn.Dense(4 * width, kernel_init=INIT)(nn.LayerNorm(epsilon=EPSILON)(x)))
        return x + dropout(nn.Dense(width, kernel_init=INIT)(hidden))


class DecisionTransformerPolicy(nn.Module):
    """Decision Transformer's network: windows -> actions f32[B, K, A] within [-1, 1].

    Each step has three tokens in this order: return-to-go, observation, action. The action at a step is
    predicted from its observation's token, so it depends on this token and the ones before, except padding.
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
        times = nn.Embed(self.max_timesteps, self.embed_dim, embedding_init=INIT)(timesteps)
        inputs = windows.returns_to_go[..., None], windows.observations, windows.actions
        embedded = [nn.Dense(self.embed_dim, kernel_init=INIT)(x) + times for x in inputs]
        tokens = jnp.stack(embedded, axis=2).reshape(size, 3 * length, self.embed_dim)
        x = nn.LayerNorm(epsilon=EPSILON)(tokens)
        x = nn.Dropout(self.dropout_rate, deterministic=not training)(x)
        known = jnp.repeat(windows.known, 3, axis=1)
        mask = nn.make_causal_mask(known) * known[:, None, None, :]
        for _ in range(self.num_layers):
            x = Block(self.num_heads, self.dropout_rate)(x, mask, training)
        x = nn.LayerNorm(epsilon=EPSILON)(x)
        of_observations = x.reshape(size, length, 3, self.embed_dim)[:, :, 1]
        return jnp.tanh(nn.Dense(self.action_dim, kernel_init=INIT)(of_observations))
