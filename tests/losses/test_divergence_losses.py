"""The MMD by brute force."""

import numpy as np
import pytest

from xql_jax.losses.divergence import gaussian_kernel, laplacian_kernel, mmd_squared


@pytest.mark.parametrize(("kernel", "power"), [(gaussian_kernel, 2), (laplacian_kernel, 1)])
@pytest.mark.parametrize("weights", [(1 / 3, 1 / 3, 1 / 3), (0.5, 0.3, 0.2)])
def test_mmd_is_the_weighted_sum_over_all_pairs(kernel, power, weights):
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(3, 5, 2)), generator.normal(0.5, 1.2, (2, 5, 2))

    def mean(x, x_weights, y, y_weights):
        pairs = [
            (a - b, v * w)
            for a, v in zip(x, x_weights, strict=True)
            for b, w in zip(y, y_weights, strict=True)
        ]
        return sum(weight * np.exp(-(np.abs(d) ** power).sum(-1) / 1.4) for d, weight in pairs)

    ones, others = (first, weights), (second, np.full(2, 1 / 2))
    expected = mean(*ones, *ones) + mean(*others, *others) - 2 * mean(*ones, *others)
    arrays = np.float32(first), np.float32(second), np.tile(np.float32(weights)[:, None], 5)
    found = mmd_squared(*arrays, kernel=kernel, sigma=0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
