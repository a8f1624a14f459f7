"""The online policies: the squashed Gaussian's density against SciPy and quadrature, ranges, formulae."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from xql_jax.networks.policies import DiagonalGaussian, TanhGaussian, TanhGaussianPolicy


def tanh_gaussian(mean, std):
    return TanhGaussian(DiagonalGaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)))


@pytest.mark.parametrize("mean", [-1.5, 0.0, 0.4])
@pytest.mark.parametrize("std", [0.1, 0.5, 0.9])
def test_density_integrates_to_one(mean, std):
    nodes, weights = np.polynomial.legendre.leggauss(1000)
    log_prob = tanh_gaussian([mean], [std]).log_prob_at(jnp.arctanh(nodes)[:, None])
    assert weights @ np.exp(np.float64(log_prob)) == pytest.approx(1.0, abs=1e-4)


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


def test_samples_and_their_density_belong_together():
    mean, std, count = 0.4, 0.8, 20_000
    distribution = tanh_gaussian(np.full((count, 1), mean), np.full((count, 1), std))
    key = jax.random.key(0)
    actions, log_probs = distribution.sample_and_log_prob(key)
    np.testing.assert_array_equal(actions, distribution.sample(key))

    law = stats.norm(mean, std)
    assert stats.kstest(np.arctanh(np.float64(actions[:, 0])), law.cdf).pvalue > 0.01
    u = np.float64(np.arctanh(np.float64(actions)))
    np.testing.assert_allclose(log_probs, (law.logpdf(u) - np.log1p(-(np.tanh(u) ** 2)))[:, 0], atol=1e-3)
    np.testing.assert_allclose(distribution.central_action(), np.tanh(mean), rtol=1e-6)


def test_gradients_of_a_sample_are_the_reparametrised_ones():
    key, std = jax.random.key(3), jnp.array([0.7])
    noise = float(jax.random.normal(key, (1,))[0])

    def action(mean):
        return TanhGaussian(DiagonalGaussian(mean, std)).sample_and_log_prob(key)[0].sum()

    def log_prob(mean):
        return TanhGaussian(DiagonalGaussian(mean, std)).sample_and_log_prob(key)[1].sum()

    u = 0.2 + 0.7 * noise
    mean = jnp.array([0.2])
    np.testing.assert_allclose(jax.grad(action)(mean), 1 - np.tanh(u) ** 2, rtol=1e-5)
    # u moves with the mean, so that the Gaussian's part of log p stands still.
    np.testing.assert_allclose(jax.grad(log_prob)(mean), 2 * np.tanh(u), rtol=1e-5)


@pytest.mark.parametrize(("output", "log_std"), [(0.0, -1.5), (100.0, 2.0), (-100.0, -5.0)])
def test_log_std_is_kept_in_range(output, log_std):
    policy = TanhGaussianPolicy(2, (8,))
    observations = jax.random.normal(jax.random.key(0), (5, 3))
    params = policy.init(jax.random.key(1), observations)
    layer = params["params"]["Dense_0"]
    layer["kernel"] = jnp.zeros_like(layer["kernel"])
    layer["bias"] = jnp.array([0.0, 0.0, output, output])
    std = policy.apply(params, observations).gaussian.std
    np.testing.assert_allclose(std, np.full((5, 2), np.exp(log_std)), rtol=1e-5)


def test_mean_and_log_std_are_linear_without_hidden_layers():
    policy = TanhGaussianPolicy(2, ())
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    params = policy.init(jax.random.key(1), observations)
    layer = params["params"]["Dense_0"]
    layer["bias"] = jnp.array([0.3, -0.4, 0.1, 0.2])
    outputs = observations @ np.float64(layer["kernel"]) + layer["bias"]
    gaussian = policy.apply(params, observations).gaussian
    np.testing.assert_allclose(gaussian.mean, outputs[:, :2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.log(gaussian.std), -1.5 + 3.5 * np.tanh(outputs[:, 2:]), atol=1e-5)
