"""The value networks against a NumPy forward pass, and their initialisation."""

import jax
import numpy as np
import pytest
from scipy import stats

from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner
from xql_jax.networks.mlp import Value, iql_init
from xql_jax.networks.policies import (
    DeterministicPolicy,
    GaussianPolicy,
    TanhGaussianPolicy,
    sac_init,
    td3_init,
)

OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
ACTIONS = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
V, Q = (OBSERVATIONS,), (OBSERVATIONS, ACTIONS)  # what these networks take


def randomised(params):
    """Fresh normal draws everywhere, so that biases and LayerNorm scales count."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def forward(params, x, layer_norm):
    """Dense, LayerNorm, ReLU in each hidden layer, then a linear output, in float64."""
    params = jax.tree.map(np.float64, params["params"])
    x = np.float64(x)
    for i in range(2):
        layer = params["MLP_0"][f"Dense_{i}"]
        x = x @ layer["kernel"] + layer["bias"]
        if layer_norm:
            norm = params["MLP_0"][f"LayerNorm_{i}"]
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
            x = x * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0.0)
    return (x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])[:, 0]


@pytest.mark.parametrize(("inputs", "layer_norm"), [(V, False), (V, True), (Q, False)])
def test_value_takes_observations_then_actions(inputs, layer_norm):
    network = Value((8, 6), layer_norm)
    params = randomised(jax.jit(network.init)(jax.random.key(0), *inputs))
    expected = forward(params, np.hstack(inputs), layer_norm)
    np.testing.assert_allclose(jax.jit(network.apply)(params, *inputs), expected, rtol=1e-4, atol=1e-4)


def layers(network, *arguments):
    params = jax.jit(network.init)(jax.random.key(0), *arguments)["params"]
    return [*params["MLP_0"].values(), params["Dense_0"]]


@pytest.mark.parametrize(("network", "inputs", "gain"), [
    (Value((16, 4)), V, np.sqrt(2.0)), (Value((16, 4), kernel_init=sac_init), V, 1.0),
    (Value((16, 4)), Q, np.sqrt(2.0)), (Value((16, 4), kernel_init=sac_init), Q, 1.0),
    (GaussianPolicy(2, (16, 4)), V, np.sqrt(2.0)), (TanhGaussianPolicy(2, (16, 4)), V, 1.0),
])  # fmt: skip
def test_initial_kernels_are_orthogonal_but_for_td3s(network, inputs, gain):
    for layer in layers(network, *inputs):
        kernel = np.asarray(layer["kernel"])
        gram = kernel @ kernel.T if kernel.shape[0] < kernel.shape[1] else kernel.T @ kernel
        np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-5)
        np.testing.assert_array_equal(layer["bias"], 0.0)


def test_td3s_kernels_are_uniform_within_one_over_the_root_of_the_inputs():
    networks = (DeterministicPolicy(2, (256, 256)), Value((256, 256), kernel_init=td3_init))
    for network, inputs in zip(networks, (V, Q), strict=True):
        for layer in layers(network, *inputs):
            kernel = np.asarray(layer["kernel"]).ravel()
            law = stats.uniform(-1 / np.sqrt(len(layer["kernel"])), 2 / np.sqrt(len(layer["kernel"])))
            assert stats.kstest(kernel, law.cdf).pvalue > 1e-3
            np.testing.assert_array_equal(layer["bias"], 0.0)


@pytest.mark.parametrize("name", [*OFFLINE, *ONLINE])
def test_value_networks_begin_as_their_methods_references_do(name):
    wanted = {
        "sac": sac_init,
        "cql": sac_init,
        "rlpd": sac_init,
        "xsac": sac_init,
        "td3": sac_init,
        "xtd3": sac_init,
    }
    wanted |= {"td3_bc": td3_init, "rebrac": td3_init}
    state = jax.eval_shape(make_learner(name).init, jax.random.key(0), OBSERVATIONS, ACTIONS)
    for held in (state.value, state.critic):
        if held is not None:
            assert held.network.kernel_init is wanted.get(name.removesuffix("_dq"), iql_init)
