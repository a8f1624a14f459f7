"""The causal transformer against a NumPy forward pass; what its actions depend on, and what they do not."""

import jax
import numpy as np
import pytest

from xql_jax.networks.sequence import DecisionTransformerPolicy
from xql_jax.types import Windows

pytestmark = pytest.mark.slow

K, O, A, E = 4, 3, 2, 8
NETWORK = DecisionTransformerPolicy(A, E, num_layers=2, num_heads=2, dropout_rate=0.1, max_timesteps=6)


def make_windows(seed=0, size=3, length=K):
    generator = np.random.default_rng(seed)
    return Windows(
        generator.normal(size=(size, length, O)).astype(np.float32),
        generator.uniform(-1, 1, (size, length, A)).astype(np.float32),
        generator.normal(size=(size, length)).astype(np.float32),
        np.tile(np.arange(length, dtype=np.int32), (size, 1)),
        np.ones((size, length), bool),
        np.zeros(size, np.float32),
    )


@pytest.fixture(scope="module")
def params():
    """Draws ten times as large as the initial ones: what an action depends on moves it far."""
    params = NETWORK.init(jax.random.key(0), make_windows())
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


act = jax.jit(NETWORK.apply)


def padded(windows, count, filled_with):
    """The windows with so many places of padding in front."""

    def pad(field):
        front = np.full((len(field), count, *field.shape[2:]), filled_with).astype(field.dtype)
        return np.concatenate([front, field], axis=1)

    fields = {name: pad(np.asarray(getattr(windows, name))) for name in Windows._fields[:4]}
    known = np.concatenate([np.zeros((len(windows.known), count), bool), windows.known], axis=1)
    return windows._replace(**fields, known=known)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_padding_changes_nothing(params, count):
    windows = make_windows()
    expected = act(params, windows)
    zeros, others = (act(params, padded(windows, count, value))[:, count:] for value in (0, 3))
    np.testing.assert_allclose(zeros, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(others, zeros)


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


def test_forward_pass_by_hand(params):
    windows = make_windows(size=1)
    p = jax.tree.map(np.float64, params["params"])
    x = np.zeros((3 * K, E))
    for t in range(K):
        time = p["Embed_0"]["embedding"][windows.timesteps[0, t]]
        inputs = windows.returns_to_go[0, t, None], windows.observations[0, t], windows.actions[0, t]
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
    np.testing.assert_allclose(act(params, windows)[0], expected, rtol=1e-4, atol=1e-5)
