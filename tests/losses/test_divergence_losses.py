"""MMD, KL and CQL's penalty: closed forms, brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.learners.cql import conservative_gap
from xql_jax.losses.divergence import gaussian_kernel, laplacian_kernel, mmd_squared, sampled_kl
from xql_jax.networks.policies import DiagonalGaussian, TanhGaussian

KERNELS = pytest.mark.parametrize("kernel", [gaussian_kernel, laplacian_kernel])
MEAN, STD = np.array([0.5, -1.0]), np.array([0.7, 1.2])
OTHER_MEAN, OTHER_STD = np.array([-0.2, 0.3]), np.array([1.1, 0.4])


def gaussians(count, states, seed=0):
    """`count` actions from each of the two Gaussians in every state."""
    generator = np.random.default_rng(seed)
    shape = (count, states, 2)
    first, second = generator.normal(MEAN, STD, shape), generator.normal(OTHER_MEAN, OTHER_STD, shape)
    return np.float32(first), np.float32(second)


@KERNELS
def test_mmd_is_the_sum_over_all_pairs(kernel):
    first, second = gaussians(3, states=5)
    second = second[:2]
    power = 2 if kernel is gaussian_kernel else 1

    def mean(x, y):
        pairs = list(itertools.product(np.float64(x), np.float64(y)))
        return sum(np.exp(-(np.abs(a - b) ** power).sum(-1) / 1.4) for a, b in pairs) / len(pairs)

    expected = mean(first, first) + mean(second, second) - 2 * mean(first, second)
    found = mmd_squared(first, second, kernel=kernel, sigma=0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found, mmd_squared(second, first, kernel=kernel, sigma=0.7), atol=1e-6)


@KERNELS
def test_weights_count_actions_several_times(kernel):
    first, second = gaussians(3, states=4)
    weights = jnp.tile(jnp.array([[0.5], [0.25], [0.25]]), 4)
    repeated = first[np.array([0, 0, 1, 2])]
    weighted = mmd_squared(first, second, kernel=kernel, sigma=0.7, first_weights=weights)
    np.testing.assert_allclose(weighted, mmd_squared(repeated, second, kernel=kernel, sigma=0.7), atol=1e-6)
    assert np.abs(weighted - mmd_squared(first, second, kernel=kernel, sigma=0.7)).max() > 1e-3


def gaussian_kl(mean, std, other_mean, other_std):
    return np.sum(np.log(other_std / std) + (std**2 + (mean - other_mean) ** 2) / (2 * other_std**2) - 0.5)


def test_sampled_kl_is_that_of_the_first_to_the_second():
    p, q = DiagonalGaussian(MEAN, STD), DiagonalGaussian(OTHER_MEAN, OTHER_STD)
    actions = DiagonalGaussian(jnp.tile(MEAN, (8, 50_000, 1)), STD).sample(jax.random.key(0))
    log_probs, other = p.log_prob(actions), q.log_prob(actions)
    found = np.asarray(sampled_kl(log_probs, other, jnp.full(log_probs.shape, 1 / 8)), np.float64)
    expected = gaussian_kl(MEAN, STD, OTHER_MEAN, OTHER_STD)
    error = found.std() / np.sqrt(found.size)
    assert abs(found.mean() - expected) < 4 * error
    np.testing.assert_array_equal(sampled_kl(log_probs, log_probs, jnp.ones_like(log_probs)), 0.0)


A, K, B = 2, 2000, 64
SLOPES = np.array([1.5, -0.8])


def uniform_actions():
    actions = jax.random.uniform(jax.random.key(0), (K, B, A), minval=-1.0, maxval=1.0)
    return actions, jnp.full((K, B), -A * np.log(2.0))


def policys_actions():
    mean, std = jnp.tile(jnp.array([0.4, -0.3]), (B, 1)), jnp.array([0.9, 1.1])
    policy = TanhGaussian(DiagonalGaussian(mean, std))
    return jax.vmap(policy.sample_and_log_prob)(jax.random.split(jax.random.key(1), K))


@pytest.mark.parametrize("draw", [uniform_actions, policys_actions])
def test_linear_q_by_importance_weights(draw):
    """The integral of exp(w * a) over [-1, 1] is 2 sinh(w) / w, wherever the actions come from."""
    actions, log_densities = draw()
    gap = conservative_gap(jnp.zeros(B), actions @ SLOPES, log_densities)
    expected = np.log(2 * np.sinh(SLOPES) / SLOPES).sum() + np.log(K)
    np.testing.assert_allclose(gap.mean(), expected, atol=0.01)
    unweighted = conservative_gap(jnp.zeros(B), actions @ SLOPES, jnp.zeros((K, B)))
    assert abs(unweighted.mean() - expected) > 0.3


def test_descent_raises_the_datas_q_and_lowers_the_others_by_their_share():
    q, log_densities = jnp.array([[0.0], [np.log(3.0)]]), jnp.zeros((2, 1))
    of_data, of_others = jax.grad(lambda *values: conservative_gap(*values, log_densities).sum(), (0, 1))(
        jnp.zeros(1), q
    )
    np.testing.assert_allclose(of_data, [-1.0])
    np.testing.assert_allclose(of_others, [[0.25], [0.75]], rtol=1e-6)
