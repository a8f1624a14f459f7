"""The MMD by brute force."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.losses.divergence import gaussian_kernel, laplacian_kernel, mmd_squared


@pytest.mark.parametrize(("kernel", "power"), [(gaussian_kernel, 2), (laplacian_kernel, 1)])
def test_mmd_is_the_sum_over_all_pairs_and_a_weight_counts_an_action_several_times(kernel, power):
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(4, 5, 2)), 0.3 + 0.7 * generator.normal(size=(2, 5, 2))
    first[1] = first[0]

    def mean(x, y):
        pairs = list(itertools.product(x, y))
        return sum(np.exp(-(np.abs(a - b) ** power).sum(-1) / 1.4) for a, b in pairs) / len(pairs)

    expected = mean(first, first) + mean(second, second) - 2 * mean(first, second)
    weights = jnp.tile(jnp.array([[0.5], [0.25], [0.25]]), 5)
    for actions, of_first in ((first, None), (first[1:], weights)):
        arrays = np.float32(actions), np.float32(second)
        found = mmd_squared(*arrays, kernel=kernel, sigma=0.7, first_weights=of_first)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
