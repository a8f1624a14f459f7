"""Appendix B as printed: counter-examples to Lemma B.1, and what Lemma B.2's bounds do as beta grows."""

import itertools

import numpy as np

from xql_jax.theory.log_partition import log_partition


def bias_bound(q_max, beta):
    """beta log cosh(Q_max / beta), which Lemma B.1 prints."""
    return beta * np.log(np.cosh(q_max / beta))


def two_point(p, x_max, beta):
    """L^beta of X = x_max with probability p, else -x_max."""
    return log_partition([x_max, -x_max], beta, [p, 1.0 - p])


def test_counter_example_to_the_printed_upper_bound():
    """Lemma B.1 as printed lacks a factor 2: Q = +-1, P(+1) = 1/4, beta = 0.1."""
    value, mean, bias = two_point(0.25, 1.0, 0.1), -0.5, bias_bound(1.0, 0.1)
    np.testing.assert_allclose([value, mean + bias, mean + 2 * bias], [0.861, 0.431, 1.361], atol=5e-4)


def test_bounded_values_are_not_enough():
    """Lemma B.1 assumes |Q| <= Q_max; its proof needs |Q_hat| <= Q_max."""
    q_hat = np.array(list(itertools.product([-10.0, 10.0], repeat=2)))  # two actions of Q = 0, errors of +-10
    expected = log_partition(q_hat, 1.0).mean()
    np.testing.assert_allclose(expected, 0.5 * np.log(np.cosh(10.0)), rtol=1e-12)
    assert 2 * bias_bound(1.0, 1.0) < 1.0 < 4.0 < expected < 2 * bias_bound(10.0, 1.0)


def test_bias_of_a_small_beta_can_be_twice_the_bound():
    """Lemma B.1's text: "a max bias of Q_max" at beta = 0 is exceeded; it can come close to 2 Q_max."""
    bias = two_point(0.01, 1.0, 1e-2) - (0.01 - 0.99)
    assert 1.9 < bias < 2.0
    assert bias_bound(1.0, 1e-2) < 1.0


BETAS = np.array([0.1, 0.5, 2.0, 10.0])


def log_bounds(value, beta):
    """Eq. 30 and Eq. 32 for |X| <= 1, with L^beta(X) = value, N = 30 and delta = 0.05."""
    margin = np.sinh(1.0 / beta) * np.sqrt(2 * np.log(20) / 30) / np.exp(value / beta)
    return value + beta * np.log1p(margin), value + beta * margin


def test_the_two_log_bounds_differ():
    """Lemma B.2, Eq. 31: "=" is "<="."""
    sharp, linear = log_bounds(np.array([two_point(0.5, 1.0, beta) for beta in BETAS]), BETAS)
    assert (sharp < linear).all()


def test_log_bound_need_not_tighten_with_beta():
    """Lemma B.2's text says the bound on L^beta tightens as beta grows. For X = +-1 its margin grows."""
    values = np.array([two_point(0.5, 1.0, beta) for beta in BETAS])
    for bound in log_bounds(values, BETAS):
        assert (np.diff(bound - values) > 0).all()
    assert (np.diff(log_bounds(0.0, BETAS)[1]) < 0).all()  # where X = 0 it does tighten
