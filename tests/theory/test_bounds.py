"""Appendix B: what is printed, what holds, and how often estimates exceed their bounds."""

import itertools

import numpy as np
import pytest
from cases import seeds, several
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from xql_jax.theory import bounds
from xql_jax.theory.log_partition import log_partition

LOG_BOUNDS = [bounds.log_partition_upper_bound, bounds.linear_log_partition_upper_bound]
ratios = st.integers(1, 400).map(lambda n: n / 20)  # of x_max or q_max to beta
moderate_ratios = st.integers(1, 80).map(lambda n: n / 20)
scales = st.sampled_from([1e-3, 0.3, 1.0, 7.0, 1e4])  # x_max or q_max
deltas = st.sampled_from([0.003, 0.01, 0.05, 0.1, 0.25, 0.4, 0.6, 0.8, 0.95])


def two_point(p, x_max, beta):
    """L^beta of X = x_max with probability p, else -x_max."""
    return log_partition([x_max, -x_max], beta, [p, 1.0 - p])


@several
@given(ratios, scales, seeds)
def test_lower_and_corrected_upper_bound(ratio, q_max, seed):
    """Lemma B.1: V <= E[V_hat] <= E[Q] + 2 beta log cosh(Q_max / beta), enumerated over estimates of Q."""
    generator, beta = np.random.default_rng(seed), q_max / ratio
    mu, noise = generator.dirichlet(np.ones(3)), generator.dirichlet(np.ones(4))
    q_hat = q_max * generator.uniform(-2.0, 2.0, (4, 3)).clip(-1.0, 1.0)  # [outcome of the noise, action]
    q = noise @ q_hat
    expected = noise @ log_partition(q_hat, beta, mu)
    assert log_partition(q, beta, mu) <= expected + 1e-12 * q_max
    assert expected <= bounds.soft_value_upper_bound(mu @ q, q_max, beta) + 1e-12 * q_max


def test_counter_example_to_the_printed_upper_bound():
    """Lemma B.1 as printed lacks a factor 2: Q = +-1, P(+1) = 1/4, beta = 0.1."""
    value, mean = two_point(0.25, 1.0, 0.1), -0.5
    printed = mean + bounds.log_cosh_bias(1.0, 0.1)
    corrected = bounds.soft_value_upper_bound(mean, 1.0, 0.1)
    np.testing.assert_allclose([value, printed, corrected], [0.861, 0.431, 1.361], atol=5e-4)


@pytest.mark.parametrize("ratio", [1e-9, 1e-6, 1e-3, 0.03, 0.999, 1.0, 3.0, 50.0, 1e4, np.inf])
def test_log_cosh_at_any_beta(ratio):
    """By its series where the ratio of q_max to beta is small, by its definition, and by its limit."""
    series = ratio**2 / 2 - ratio**4 / 12 + ratio**6 / 45
    exact = series if ratio < 0.02 else np.log(np.cosh(ratio)) if ratio < 100 else ratio - np.log(2)
    beta = 7.0 / ratio if ratio < np.inf else 1e-320
    wanted = beta * exact if ratio < np.inf else 7.0
    np.testing.assert_allclose(bounds.log_cosh_bias(7.0, beta), wanted, rtol=1e-12)


def test_bounded_values_are_not_enough():
    """Lemma B.1 assumes |Q| <= Q_max; its proof needs |Q_hat| <= Q_max."""
    q_hat = np.array(list(itertools.product([-10.0, 10.0], repeat=2)))  # two actions of Q = 0, errors of +-10
    expected = log_partition(q_hat, 1.0).mean()
    np.testing.assert_allclose(expected, 0.5 * np.log(np.cosh(10.0)), rtol=1e-12)
    assert bounds.soft_value_upper_bound(0.0, 1.0, 1.0) < 1.0 < 4.0 < expected
    assert expected < bounds.soft_value_upper_bound(0.0, 10.0, 1.0)


def test_bias_of_a_small_beta_can_be_twice_the_bound():
    """Lemma B.1's text: "a max bias of Q_max" at beta = 0 is exceeded; it can come close to 2 Q_max."""
    bias = two_point(0.01, 1.0, 1e-4) - (0.01 - 0.99)
    assert 1.97 < bias < 2.0
    np.testing.assert_allclose(2.0 * bounds.log_cosh_bias(1.0, 1e-4), 2.0, atol=1e-3)


@several
@given(ratios, scales, st.integers(-16, 16), st.integers(1, 500), deltas)
def test_log_bounds_against_the_formula(ratio, x_max, sixteenths, num_samples, delta):
    """Lemma B.2, Eq. 29 to 32: as printed where nothing overflows; Eq. 31's "=" is "<="."""
    beta, value = x_max / ratio, x_max * sixteenths / 16
    partition = np.exp(value / beta)
    margin = np.sinh(ratio) * np.sqrt(2 * np.log(1 / delta) / num_samples)
    arguments = (x_max, beta, num_samples, delta)
    partition_bound = bounds.partition_upper_bound(partition, *arguments)
    sharp, linear = (f(value, *arguments) for f in LOG_BOUNDS)
    np.testing.assert_allclose(partition_bound, partition + margin, rtol=1e-12)
    np.testing.assert_allclose(sharp, beta * np.log(partition + margin), rtol=1e-9, atol=1e-9 * x_max)
    np.testing.assert_allclose(linear - value, beta * margin / partition, rtol=1e-9, atol=1e-12 * x_max)
    x = margin / partition
    assert linear - sharp >= beta * (x - np.log1p(x)) * (1.0 - 1e-6) - 1e-12 * x_max
    assert sharp < linear or x < 1e-4  # x**2 / 2 of beta may be lost in rounding


def test_log_bound_need_not_tighten_with_beta():
    """Lemma B.2's text says the bound on L^beta tightens as beta grows. For X = +-1 its margin grows."""
    betas = np.array([0.01, 0.1, 0.5, 2.0, 10.0])
    values = np.array([two_point(0.5, 1.0, beta) for beta in betas])
    linear, sharp = (f(values, 1.0, betas, 30, 0.05) - values for f in reversed(LOG_BOUNDS))
    np.testing.assert_allclose(linear, betas * np.tanh(1 / betas) * np.sqrt(2 * np.log(20) / 30), rtol=1e-9)
    assert (np.diff(linear) > 0).all()
    assert (np.diff(sharp) > 0).all()
    # Where X = 0 it does tighten; the bound on the partition function always does.
    assert (np.diff(bounds.linear_log_partition_upper_bound(0.0, 1.0, betas, 30, 0.05)) < 0).all()
    assert (np.diff(bounds.partition_upper_bound(1.0, 1.0, betas, 30, 0.05)) < 0).all()


def test_exact_failure_probability_of_two_points():
    """Lemma B.2: for X = +-X_max the estimate exceeds either bound with a probability of at most delta."""
    shares_of_delta = []

    @several
    @given(moderate_ratios, st.integers(1, 60), st.integers(1, 99).map(lambda n: n / 100), deltas)
    def enumerate_counts(ratio, num_samples, p, delta):
        counts = np.arange(num_samples + 1)
        shares = np.stack([counts, num_samples - counts], -1) / num_samples
        chances = stats.binom.pmf(counts, num_samples, p)
        estimates = log_partition(np.tile([ratio, -ratio], (num_samples + 1, 1)), 1.0, shares)
        value, arguments = two_point(p, ratio, 1.0), (ratio, 1.0, num_samples, delta)
        sharp, linear = (f(value, *arguments) for f in LOG_BOUNDS)
        failure = chances[estimates > sharp + 1e-12].sum()
        assert chances[estimates > linear + 1e-12].sum() <= failure <= delta
        shares_of_delta.append(failure / delta)
        # The bound on the partition function fails in the very same cases.
        assume((np.abs(estimates - sharp) > 1e-9).all())
        partition_bound = bounds.partition_upper_bound(np.exp(value), *arguments)
        np.testing.assert_array_equal(np.exp(estimates) > partition_bound, estimates > sharp)

    enumerate_counts()
    assert max(shares_of_delta) > 0.5  # near delta somewhere: the bound is exercised
