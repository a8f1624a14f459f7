"""The MMD by brute force."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.losses.divergence import gaussian_kernel, laplacian_kernel, mmd_squared

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
