"""Distributions over actions and the policies that give them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from xql_jax.networks.policies import (
    DiagonalGaussian,
    GaussianMixture,
    GaussianPolicy,
    NarrowGaussianPolicy,
    StateGaussianPolicy,
    TanhGaussian,
)


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


MIXTURE = GaussianMixture(
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
        (StateGaussianPolicy, lambda x: np.clip(x, -5.0, 2.0), 1.0, np.exp(2.0)),
        (NarrowGaussianPolicy, lambda x: -2.5 + 2.5 * np.tanh(x), np.exp(-2.5), 1.0),
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


def test_a_squashed_density_by_the_action_is_that_by_what_it_is_the_tanh_of():
    distribution = TanhGaussian(DiagonalGaussian(jnp.array([0.3, -1.0]), jnp.array([0.5, 1.5])))
    u = jax.random.normal(jax.random.key(0), (100, 2))
    np.testing.assert_allclose(
        distribution.log_prob(jnp.tanh(u)), distribution.log_prob_at(u), rtol=1e-4, atol=1e-4
    )
    at_bounds = distribution.log_prob(jnp.array([[1.0, -1.0], [1.0 - 1e-5, -1.0 + 1e-5]]))
    assert np.isfinite(at_bounds).all()
    np.testing.assert_array_equal(at_bounds[0], at_bounds[1])


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
