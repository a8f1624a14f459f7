"""L^beta against SciPy, its limits and symmetries; Lemmas 3.1 to 3.3 on it, its loss and its estimates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from cases import distributions, several, triples
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp

from xql_jax.losses import gumbel
from xql_jax.theory.log_partition import log_partition

betas = st.integers(1, 200).map(lambda n: n / 20)
wide_betas = st.sampled_from([10.0**k for k in range(-6, 10)])
scales = st.sampled_from([1e-3, 0.3, 1.0, 7.0, 1e4])


def compositions(num_samples, size):
    """Every way in which `num_samples` samples can fall on `size` values, int[ways, size]."""
    cuts = itertools.combinations(range(num_samples + size - 1), size - 1)
    return np.array([np.diff([-1, *cut, num_samples + size - 1]) - 1 for cut in cuts])


@several
@given(triples, distributions, betas, scales)
def test_agrees_with_scipy(x, probabilities, beta, scale):
    """Eq. 1: L^beta(X) = beta log E[exp(X / beta)]."""
    expected = beta * logsumexp(scale * x / beta, b=probabilities)
    np.testing.assert_allclose(
        log_partition(scale * x, beta, probabilities), expected, rtol=1e-12, atol=1e-13
    )


@several
@given(triples, distributions, wide_betas)
def test_lies_between_its_limits(x, probabilities, beta):
    """Lemma 3.1: L^beta is within E[X] and the maximum, and how close it is to either is known.

    Hoeffding's lemma bounds it from above, the probability of the maximum from below.
    """
    value, mean = log_partition(x, beta, probabilities), probabilities @ x
    at_maximum = probabilities[x == x.max()].sum()
    assert mean - 1e-14 <= value <= x.max()
    assert value - mean <= np.ptp(x) ** 2 / (8.0 * beta) + 1e-14
    assert value >= x.max() + beta * np.log(at_maximum) - 1e-14


@several
@given(st.integers(-100, 100).map(lambda n: n / 7), distributions, wide_betas)
def test_constant_is_its_own_value(x, probabilities, beta):
    """Lemma 3.1 printed: for a constant X its strict inequality is an equality, at any beta."""
    assert log_partition(np.full(3, x), beta, probabilities) == x
    assert log_partition([x, x + 5.0], beta, [1.0, 0.0]) == x  # almost surely constant


@jax.jit
def losses(values, targets, beta):
    return gumbel.gumbel_loss(values, targets, beta=beta)


def risk(theta, x, probabilities, beta):
    """E[gumbel_loss] at theta over X, of the loss that learners use, in float64."""
    with jax.enable_x64(True):
        each = losses(jnp.full(len(x), float(theta)), jnp.asarray(x, jnp.float64), float(beta))
        assert each.dtype == jnp.float64
        return probabilities @ np.asarray(each)


@several
@given(triples, distributions, betas, st.integers(-64, 64))
def test_unique_minimum_of_the_risk(x, probabilities, beta, sixteenths):
    """Lemma 3.2: L^beta(X) is the only minimum of the risk.

    There it is (L^beta - E[X]) / beta; elsewhere exp(-d) + d - 1 more, with d = (theta - L^beta) / beta.
    """
    best, d = log_partition(x, beta, probabilities), sixteenths / 16
    minimum = risk(best, x, probabilities, beta)
    np.testing.assert_allclose(minimum, (best - probabilities @ x) / beta, rtol=1e-9, atol=1e-12)
    above = risk(best + beta * d, x, probabilities, beta) - minimum
    np.testing.assert_allclose(above, np.expm1(-d) + d, rtol=1e-9, atol=1e-12 * (1.0 + minimum))
    assume(d != 0.0)
    assert above > 1e-4


@several
@given(triples, distributions, triples)
def test_risk_is_quadratic_at_large_beta(x, probabilities, thetas):
    """Lemma 3.2: L(theta) nears E[(X - theta)^2] / (2 beta^2); what is left, E[(X - theta)^3] / (6 beta^3).

    So the errors are as if Gaussian of standard deviation beta: in the paper's N(0, beta) it is no variance.
    """
    errors = x - thetas[0]
    bound = np.abs(errors).max() ** 4
    for beta in (30.0, 100.0, 300.0):
        rest = risk(thetas[0], x, probabilities, beta) - probabilities @ errors**2 / (2.0 * beta**2)
        cubic = probabilities @ errors**3 / 6.0
        assert abs(rest * beta**3 - cubic) <= 1.2 * bound / (24.0 * beta) + 1e-8
    log_densities = stats.norm.logpdf(errors, 0.0, beta) - stats.norm.logpdf(0.0, 0.0, beta)
    quadratic = probabilities @ errors**2 / (2.0 * beta**2)
    np.testing.assert_allclose(-probabilities @ log_densities, quadratic, atol=1e-12)


@several
@given(triples, distributions, betas, st.integers(1, 6))
def test_estimates_enumerated(x, probabilities, beta, num_samples):
    """Lemma 3.3: over every sample E[exp(L_hat / beta)] = Z, but E[L_hat] < L^beta, nearing it with N.

    The text under Lemma 3.2 calls what SGD finds from samples an unbiased estimate of the LogSumExp: of the
    true one it is an estimate from below (Jensen), of one sample the mean.
    """

    def expectations(num_samples):
        counts = compositions(num_samples, 3)
        chances = stats.multinomial.pmf(counts, num_samples, probabilities)
        estimates = log_partition(np.broadcast_to(x, counts.shape), beta, counts / num_samples)
        return chances @ np.exp(estimates / beta), chances @ estimates

    partition, value = expectations(num_samples)
    truth = log_partition(x, beta, probabilities)
    np.testing.assert_allclose(partition, probabilities @ np.exp(x / beta), rtol=1e-9)
    np.testing.assert_allclose(expectations(1)[1], probabilities @ x, atol=1e-12)
    assume(np.ptp(x) > 0.5)
    assert value < expectations(num_samples + 1)[1] - 1e-8 < truth
