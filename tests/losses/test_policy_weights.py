"""The AWR weight of Eq. 12."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.losses.regression import exponential_advantage_weight

ADVANTAGES = jnp.array([-2.0, -0.1, 0.0, 0.5, 1.0, 3.0])


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_is_the_papers_weight_at_the_inverse_of_beta(beta):
    weight = exponential_advantage_weight(ADVANTAGES, awr_temperature=1 / beta, max_weight=jnp.inf)
    np.testing.assert_allclose(weight, np.exp(np.float64(ADVANTAGES) / beta), rtol=1e-6)


def test_cap():
    # exp(3 * 1) is 20, exp(3 * 3) is 8103: only the last is capped, at 100 unless told.
    expected = np.exp(3.0 * np.float64(ADVANTAGES))
    weight = exponential_advantage_weight(ADVANTAGES, awr_temperature=3.0)
    np.testing.assert_allclose(weight, [*expected[:-1], 100.0], rtol=1e-6)
    weight = exponential_advantage_weight(ADVANTAGES, awr_temperature=3.0, max_weight=0.5)
    np.testing.assert_allclose(weight, np.minimum(expected, 0.5), rtol=1e-6)


def test_is_a_constant_for_gradients():
    gradient = jax.grad(lambda a: exponential_advantage_weight(a, awr_temperature=3.0).sum())(ADVANTAGES)
    np.testing.assert_array_equal(gradient, 0.0)
