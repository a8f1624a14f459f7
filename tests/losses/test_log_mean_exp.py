"""The operator L^beta against float64, its limits and Lemma 3.1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from xql_jax.losses.gumbel import log_mean_exp

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("beta", [0.2, 1.0, 4.0])
def test_by_hand(beta):
    # exp(x / beta) is 1 or 3, whose mean is 2.
    x = beta * jnp.log(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(log_mean_exp(x, beta=beta), beta * np.log(2.0), rtol=1e-6)


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (0, 1, 2)])
def test_axes(beta, axis):
    count = X.size if axis is None else np.prod(np.array(X.shape)[list(np.atleast_1d(axis))])
    expected = beta * (logsumexp(np.float64(X) / beta, axis=axis) - np.log(count))
    result = log_mean_exp(X, beta=beta, axis=axis)
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    x=st.lists(st.floats(-5, 5, width=32), min_size=6, max_size=6),
    beta=st.floats(0.125, 8.0, width=32),
    factor=st.floats(1.25, 8.0, width=32),
)
def test_falls_with_beta_from_the_maximum_to_the_mean(x, beta, factor):
    x = jnp.array(x, jnp.float32)
    small, large = log_mean_exp(x, beta=beta), log_mean_exp(x, beta=beta * factor)
    tolerance = 1e-4  # float32
    assert x.max() + tolerance >= small >= large - tolerance
    assert large >= x.mean() - tolerance
    if np.ptp(x) > 1.0:  # Lemma 3.1 is strict for an x that is not constant
        assert small > large


def test_large_entries_do_not_overflow():
    result, gradient = jax.value_and_grad(lambda x: log_mean_exp(x, beta=1e-3))(jnp.array([3e4, 1e4, -3e4]))
    np.testing.assert_allclose(result, 3e4, rtol=1e-6)
    np.testing.assert_allclose(gradient, [1.0, 0.0, 0.0], atol=1e-6)
