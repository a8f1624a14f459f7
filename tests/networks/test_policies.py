"""The Gaussian policy: density, samples, and the ranges of its parameters."""

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


def test_log_density_is_the_sum_of_normal_ones():
    mean, std = np.array([[0.1, -0.3], [0.9, 0.0]]), np.array([0.5, 2.0])
    actions = np.array([[0.4, 1.0], [-1.0, 0.2]])
    expected = stats.norm.logpdf(actions, mean, std).sum(-1)
    distribution = DiagonalGaussian(jnp.array(mean), jnp.array(std))
    np.testing.assert_allclose(distribution.log_prob(jnp.array(actions)), expected, rtol=1e-5)
    np.testing.assert_array_equal(distribution.central_action(), distribution.mean)


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


@pytest.mark.slow
def test_a_mixtures_samples_and_weighted_draws_have_its_moments():
    many = GaussianMixture(*(jnp.broadcast_to(x, (20_000, *x.shape)) for x in MIXTURE))
    mean = 0.2 * np.array([0.5, -1.0]) + 0.8 * np.array([-0.5, 2.0])
    second = 0.2 * (np.array([0.5, -1.0]) ** 2 + [0.01, 0.09]) + 0.8 * (
        np.array([-0.5, 2.0]) ** 2 + [0.04, 0.25]
    )
    samples = np.asarray(many.sample(jax.random.key(0)))
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.03)
    np.testing.assert_allclose((samples**2).mean(0), second, rtol=0.03)
    actions, log_probs, weights = many.draws(jax.random.key(1))
    np.testing.assert_allclose(weights.sum(0), 1.0, rtol=1e-6)
    np.testing.assert_allclose((weights[..., None] * actions).sum(0).mean(0), mean, atol=0.01)
    np.testing.assert_allclose((weights[..., None] * actions**2).sum(0).mean(0), second, rtol=0.01)
    np.testing.assert_allclose(log_probs, many.log_prob(actions), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda mean: DiagonalGaussian(mean, jnp.array([0.5, 0.5])),
        lambda mean: TanhGaussian(DiagonalGaussian(mean, jnp.array([0.5, 0.5]))),
        lambda mean: GaussianMixture(jnp.zeros(2), jnp.stack([mean, mean - 1.0]), jnp.full((2, 2), 0.5)),
        # Only the probabilities of the components know of the mean.
        lambda mean: GaussianMixture(
            jnp.stack([mean[0], 0.0]), jnp.array([[1.0, 1.0], [0.0, 0.0]]), jnp.ones((2, 2))
        ),
    ],
    ids=["gaussian", "squashed", "mixture", "mixture's choice"],
)
def test_gradients_of_an_expectation_flow_through_draws(make):
    """Against the score-function estimate, which needs the density alone."""
    mean = jnp.array([0.3, -0.2])
    payoff = lambda actions: (actions * jnp.array([1.0, 2.0])).sum(-1)  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 40_000)

    def through_draws(mean, key):
        drawn = make(mean).draws(key)
        return (drawn.weights * payoff(drawn.actions)).sum()

    def by_score(mean, key):
        action = jax.lax.stop_gradient(make(mean).sample(key))
        return payoff(action) * make(mean).log_prob(action)

    gradients = [jax.vmap(jax.grad(f), (None, 0))(mean, keys).mean(0) for f in (through_draws, by_score)]
    np.testing.assert_allclose(*gradients, atol=0.05)
    assert abs(gradients[0][0]) > 0.1


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
