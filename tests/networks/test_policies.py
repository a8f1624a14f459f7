"""The Gaussian policy: density, samples, and the ranges of its parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from xql_jax.networks.policies import DiagonalGaussian, GaussianPolicy


def test_log_density_is_the_sum_of_normal_ones():
    mean, std = np.array([[0.1, -0.3], [0.9, 0.0]]), np.array([0.5, 2.0])
    actions = np.array([[0.4, 1.0], [-1.0, 0.2]])
    expected = stats.norm.logpdf(actions, mean, std).sum(-1)
    distribution = DiagonalGaussian(jnp.array(mean), jnp.array(std))
    np.testing.assert_allclose(distribution.log_prob(jnp.array(actions)), expected, rtol=1e-5)
    np.testing.assert_array_equal(distribution.central_action(), distribution.mean)


def test_samples_have_the_mean_and_deviation():
    distribution = DiagonalGaussian(jnp.tile(jnp.array([0.5, -2.0]), (20_000, 1)), jnp.array([0.1, 3.0]))
    samples = np.asarray(distribution.sample(jax.random.key(0)))
    np.testing.assert_allclose(samples.mean(0), [0.5, -2.0], atol=0.1)
    np.testing.assert_allclose(samples.std(0), [0.1, 3.0], rtol=0.03)
    np.testing.assert_allclose(np.corrcoef(samples.T)[0, 1], 0.0, atol=0.03)


@pytest.mark.parametrize(
    ("log_std", "std"), [(0.0, 1.0), (-4.0, np.exp(-4)), (-50.0, np.exp(-5)), (9.0, np.exp(2))]
)
def test_deviation_is_kept_in_range_and_does_not_depend_on_the_state(log_std, std):
    policy = GaussianPolicy(2, (8,))
    observations = jax.random.normal(jax.random.key(0), (5, 3))
    params = policy.init(jax.random.key(1), observations)
    np.testing.assert_array_equal(policy.apply(params, observations).std, 1.0)  # at the start
    params["params"]["log_std"] = jnp.full(2, log_std)
    np.testing.assert_allclose(policy.apply(params, observations).std, [std, std], rtol=1e-5)


def test_mean_is_the_tanh_of_a_linear_map_without_hidden_layers():
    policy = GaussianPolicy(2, ())
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    params = policy.init(jax.random.key(1), observations)
    layer = params["params"]["Dense_0"]
    layer["bias"] = jnp.array([0.3, -0.4])
    expected = np.tanh(observations @ layer["kernel"] + layer["bias"])
    np.testing.assert_allclose(policy.apply(params, observations).mean, expected, rtol=1e-5, atol=1e-6)
