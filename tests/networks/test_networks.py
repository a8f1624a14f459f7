"""Value networks against a NumPy forward pass and their initialisation; distributions and their policies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner
from xql_jax.losses.divergence import sampled_kl
from xql_jax.networks import policies
from xql_jax.networks.mlp import DiagonalGaussian, GaussianPolicy, Value, iql_init
from xql_jax.networks.policies import TanhGaussian, sac_init, td3_init

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


@pytest.mark.parametrize(("network", "inputs", "gain"), [
    (Value((16, 4)), V, np.sqrt(2.0)), (Value((16, 4), kernel_init=sac_init), Q, 1.0),
    (GaussianPolicy(2, (16, 4)), V, np.sqrt(2.0)), (policies.TanhGaussianPolicy(2, (16, 4)), V, 1.0),
    (policies.DeterministicPolicy(2, (16, 4), sac_init), V, 1.0),
])  # fmt: skip
def test_initial_kernels_are_orthogonal(network, inputs, gain):
    params = jax.jit(network.init)(jax.random.key(0), *inputs)["params"]
    for layer in (*params["MLP_0"].values(), params["Dense_0"]):
        kernel = np.asarray(layer["kernel"])
        gram = kernel @ kernel.T if kernel.shape[0] < kernel.shape[1] else kernel.T @ kernel
        np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-5)
        np.testing.assert_array_equal(layer["bias"], 0.0)


def test_td3s_kernels_are_uniform_within_one_over_the_root_of_the_inputs():
    kernel = np.ravel(td3_init(jax.random.key(0), (100, 256)))
    assert stats.kstest(kernel, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", [*OFFLINE, *ONLINE])
def test_value_networks_begin_as_their_methods_references_do(name):
    wanted = dict.fromkeys(("sac", "cql", "cal_ql", "rlpd", "xsac", "td3", "xtd3"), sac_init)
    wanted |= {"td3_bc": td3_init, "rebrac": td3_init}
    state = jax.eval_shape(make_learner(name).init, jax.random.key(0), OBSERVATIONS, ACTIONS)
    for held in (state.value, state.critic):
        if held is not None:
            assert held.network.kernel_init is wanted.get(name.removesuffix("_dq"), iql_init)


@pytest.mark.parametrize(("log_std", "std"), [(0.0, 1.0), (-50.0, np.exp(-5)), (9.0, np.exp(2))])
def test_deviation_is_kept_in_range_and_does_not_depend_on_the_state(log_std, std):
    policy = GaussianPolicy(2, (8,))
    params = policy.init(jax.random.key(1), OBSERVATIONS)
    np.testing.assert_array_equal(policy.apply(params, OBSERVATIONS).std, 1.0)  # at the start
    params["params"]["log_std"] = jnp.full(2, log_std)
    np.testing.assert_allclose(policy.apply(params, OBSERVATIONS).std, [std, std], rtol=1e-5)


MIXTURE = policies.GaussianMixture(
    jnp.log(jnp.array([0.2, 0.8])), jnp.array([[0.5, -1.0], [-0.5, 2.0]]), jnp.array([[0.1, 0.3], [0.2, 0.5]])
)


def test_a_mixtures_density_is_the_weighted_sum_of_its_components():
    actions = np.array([[0.4, -0.9], [-0.3, 1.0], [5.0, 5.0]])
    means, stds = np.asarray(MIXTURE.mean), np.asarray(MIXTURE.std)
    densities = [stats.norm.pdf(actions, mean, std).prod(-1) for mean, std in zip(means, stds, strict=True)]
    expected = np.log(0.2 * densities[0] + 0.8 * densities[1])
    np.testing.assert_allclose(MIXTURE.log_prob(jnp.array(actions))[:2], expected[:2], rtol=1e-5)
    assert np.isfinite(MIXTURE.log_prob(jnp.array(actions))[2])  # where densities underflow
    np.testing.assert_array_equal(MIXTURE.central_action(), [-0.5, 2.0])  # the likelier one's


@pytest.mark.parametrize(
    ("network", "bounded", "at_first", "highest"),
    [
        (policies.StateGaussianPolicy, lambda x: np.clip(x, -5.0, 2.0), 1.0, np.exp(2.0)),
        (policies.NarrowGaussianPolicy, lambda x: -2.5 + 2.5 * np.tanh(x), np.exp(-2.5), 1.0),
    ],
)
def test_a_deviation_that_depends_on_the_state(network, bounded, at_first, highest):
    policy = network(2, ())
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    params = policy.init(jax.random.key(1), observations)
    np.testing.assert_allclose(policy.apply(params, observations).std, at_first, rtol=0.15)
    layer = params["params"]["Dense_1"]
    layer["kernel"] = layer["kernel"] * 100 * jnp.array([1.0, 10.0])
    stds = np.asarray(policy.apply(params, observations).std)
    np.testing.assert_allclose(np.log(stds), bounded(observations @ layer["kernel"]), atol=1e-4)
    np.testing.assert_allclose([stds.min(), stds.max()], [np.exp(-5.0), highest], rtol=1e-5)
    assert len(np.unique(stds)) > 10


def tanh_gaussian(mean, std):
    return TanhGaussian(DiagonalGaussian(jnp.float32(mean), jnp.float32(std)))


def test_density_is_the_change_of_variables_far_into_the_tails():
    mean, std = np.array([0.3, -0.2]), np.array([0.5, 6.0])
    u = np.array([[0.0, 0.0], [0.5, -1.0], [-3.0, 9.0], [2.0, 40.0], [5.0, -60.0]])
    log_cosh = np.logaddexp(u, -u) - np.log(2.0)
    expected = (stats.norm.logpdf(u, mean, std) + 2.0 * log_cosh).sum(-1)  # tanh' = 1 / cosh^2
    distribution = tanh_gaussian(mean, std)
    np.testing.assert_allclose(distribution.log_prob_at(jnp.asarray(u, jnp.float32)), expected, rtol=2e-6)
    # d log p / du = -(u - mean) / std^2 + 2 tanh(u), which the naive log(1 - tanh^2) makes NaN from u = 9 on.
    slope = jax.grad(lambda u: distribution.log_prob_at(u).sum())(jnp.asarray(u, jnp.float32))
    np.testing.assert_allclose(slope, -(u - mean) / std**2 + 2 * np.tanh(u), rtol=1e-5, atol=1e-6)
    at_bound, within = distribution.log_prob(jnp.array([[-1.0, 0.5], [-1.0 + 1e-5, 0.5]]))
    assert np.isfinite(at_bound)
    assert at_bound == within


def test_samples_have_the_density_that_is_given_with_them():
    distribution = tanh_gaussian(np.full((20_000, 1), 0.4), np.full((20_000, 1), 0.8))
    actions, log_probs = distribution.sample_and_log_prob(jax.random.key(0))
    assert stats.kstest(np.arctanh(np.float64(actions[:, 0])), stats.norm(0.4, 0.8).cdf).pvalue > 0.01
    np.testing.assert_allclose(log_probs, distribution.log_prob(actions), atol=1e-3)


def test_a_policy_is_at_no_distance_from_itself_at_the_bounds_too():
    """At a deviation of 4.5 a sixth of the actions are within 1e-5 of ±1. That from another is exact."""
    ours, wider = (tanh_gaussian(np.zeros((20_000, 1)), np.full((20_000, 1), std)) for std in (4.5, 5.0))
    drawn = policies.draws(ours, jax.random.key(0))
    np.testing.assert_array_equal(drawn.log_probs_of(ours), drawn.log_probs)
    exact = np.log(5.0 / 4.5) + 4.5**2 / (2 * 5.0**2) - 0.5
    divergence = sampled_kl(drawn.log_probs, drawn.log_probs_of(wider), drawn.weights).mean()
    assert float(divergence) == pytest.approx(exact, abs=0.004)
