"""The causal transformer against a NumPy forward pass, which knows nothing of padding."""

import jax
import numpy as np
import pytest

from xql_jax.networks.sequence import DecisionTransformerPolicy
from xql_jax.types import Windows

K, O, A, E = 4, 3, 2, 8
NETWORK = DecisionTransformerPolicy(A, E, num_layers=2, num_heads=2, dropout_rate=0.1, max_timesteps=6)


def make_windows(padding):
    """A window of so many places of padding, filled with noise, and of K steps."""
    generator = np.random.default_rng(0)
    length = padding + K
    places = np.arange(length, dtype=np.int32)[None] - padding
    return Windows(
        generator.normal(size=(1, length, O)).astype(np.float32),
        generator.uniform(-1, 1, (1, length, A)).astype(np.float32),
        generator.normal(size=(1, length)).astype(np.float32),
        np.maximum(places, 0),
        places >= 0,
        np.zeros(1, np.float32),
    )


def drawn_params():
    """Draws ten times as large as the initial ones: what an action depends on moves it far."""
    params = NETWORK.init(jax.random.key(0), make_windows(0))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def layer_norm(params, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * params["scale"] + params["bias"]


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def attention(params, x):
    """Attention over one sequence [T, E], head by head: a token attends to those up to itself."""
    out = np.broadcast_to(params["out"]["bias"], x.shape).copy()
    for head in range(2):
        q, k, v = (
            x @ params[name]["kernel"][:, head] + params[name]["bias"][head]
            for name in ("query", "key", "value")
        )
        for t in range(len(x)):
            weights = np.exp(k[: t + 1] @ q[t] / np.sqrt(q.shape[-1]))
            out[t] += weights / weights.sum() @ v[: t + 1] @ params["out"]["kernel"][head]
    return out


@pytest.mark.parametrize("padding", [0, 1, 7])
def test_forward_pass_by_hand_which_leaves_padding_out(padding):
    windows, params = make_windows(padding), drawn_params()
    p = jax.tree.map(np.float64, params["params"])
    x = np.zeros((3 * K, E))
    for t in range(K):
        i = padding + t
        time = p["Embed_0"]["embedding"][t]
        inputs = windows.returns_to_go[0, i, None], windows.observations[0, i], windows.actions[0, i]
        for place, token in enumerate(inputs):
            x[3 * t + place] = dense(p[f"Dense_{place}"], np.float64(token)) + time
    x = layer_norm(p["LayerNorm_0"], x)
    for layer in ("Block_0", "Block_1"):
        block = p[layer]
        x = x + attention(block["MultiHeadDotProductAttention_0"], layer_norm(block["LayerNorm_0"], x))
        hidden = np.maximum(dense(block["Dense_0"], layer_norm(block["LayerNorm_1"], x)), 0.0)
        assert hidden.shape == (3 * K, 4 * E)
        x = x + dense(block["Dense_1"], hidden)
    expected = np.tanh(dense(p["Dense_3"], layer_norm(p["LayerNorm_1"], x)[1::3]))
    actions = jax.jit(NETWORK.apply)(params, windows)[0, padding:]
    np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-5)
