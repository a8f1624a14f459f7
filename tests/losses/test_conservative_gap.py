"""CQL's penalty: the log of the integral of exp(Q) over the actions, where that is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.learners.cql import conservative_gap
from xql_jax.networks.policies import DiagonalGaussian, TanhGaussian

A, K, B = 2, 2000, 64
SLOPES = np.array([1.5, -0.8])


def uniform_actions():
    actions = jax.random.uniform(jax.random.key(0), (K, B, A), minval=-1.0, maxval=1.0)
    return actions, jnp.full((K, B), -A * np.log(2.0))


def policys_actions():
    mean, std = jnp.tile(jnp.array([0.4, -0.3]), (B, 1)), jnp.array([0.9, 1.1])
    policy = TanhGaussian(DiagonalGaussian(mean, std))
    return jax.vmap(policy.sample_and_log_prob)(jax.random.split(jax.random.key(1), K))


def test_constant_q_at_uniform_actions():
    """The integral of exp(c) over [-1, 1]^A is exp(c) * 2^A, without any error of sampling."""
    _, log_densities = uniform_actions()
    gap = conservative_gap(jnp.full(B, 0.4), jnp.full((K, B), 3.0), log_densities)
    np.testing.assert_allclose(gap, 3.0 + A * np.log(2.0) + np.log(K) - 0.4, rtol=1e-6)


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
