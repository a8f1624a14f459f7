"""The Gumbel distribution as printed, and maxima."""

import numpy as np
import pytest
from cases import instances
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_density_as_printed_lacks_the_scale(beta):
    """Section 2.2 prints p(x) = exp(-(z + exp(-z))): that integrates to beta, not to 1."""

    def printed(x):
        z = (x - 3.0) / beta
        return np.exp(-(z + np.exp(-z)))

    ends = (3.0 - 6 * beta, 3.0 + 40 * beta)
    np.testing.assert_allclose(integrate.quad(printed, *ends)[0], beta, rtol=1e-9)
    np.testing.assert_allclose(integrate.quad(stats.gumbel_r(3.0, beta).pdf, *ends)[0], 1.0, rtol=1e-9)


# Theorem 1 says that the maximum of n variables with exponential tails "follows" the Gumbel distribution as n
# grows. What converges is (max - b_n) / a_n. A sufficient condition (von Mises) is that the slope of the
# reciprocal hazard rate, (1 - F(x)) / f(x), goes to 0. For bounded variables the limit is another law.


def maximum_distance(distribution, count, location, scale):
    """The largest difference between F(x)^count, the cdf of the maximum of count variables, and Gumbel's."""
    low, high, largest = -3.6, 36.0, 0.0  # beyond, the Gumbel cdf is within 2e-16 of 0 and of 1
    for _ in range(5):  # finer and finer around the largest; logcdf keeps the upper tail's precision
        z = np.linspace(low, high, 4001)
        x = location + scale * z
        difference = np.abs(np.exp(float(count) * distribution.logcdf(x)) - np.exp(-np.exp(-z)))
        best = int(difference.argmax())
        largest = max(largest, float(difference[best]))
        low, high = z[max(best - 1, 0)], z[min(best + 1, len(z) - 1)]
    return largest


def test_maximum_itself_has_no_limit():
    """Theorem 1 as printed leaves out the constants: no one Gumbel is near the maximum for all n.

    With von Mises' the distance falls: b_n is the quantile of 1 - 1/n, and a_n = 1 / (n f(b_n)).
    """
    normal, counts = stats.norm(), (10**2, 10**4, 10**8)
    quantiles = [normal.isf(1.0 / n) for n in counts]
    laws = [(b, 1.0 / (n * normal.pdf(b))) for b, n in zip(quantiles, counts, strict=True)]
    found = [maximum_distance(normal, n, *law) for n, law in zip(counts, laws, strict=True)]
    assert 0.03 > found[0] > found[1] > found[2]
    assert maximum_distance(normal, counts[1], *laws[0]) > 0.9


@instances
@given(st.integers(-1000, 500), st.integers(-40, 40))
def test_no_gumbel_is_near_the_maximum_of_bounded_variables(shift, log_scale):
    """Theorem 1, footnote 2: whatever its location and scale."""
    n = 10**6
    distance = maximum_distance(stats.uniform(), n, 1 + shift / 100 / n, np.exp(log_scale / 10) / n)
    assert distance > 0.12


def test_exponential_tail_is_not_enough():
    """Theorem 1's condition: P(X > k) = 2^-k is an exponential tail, but the maximum's jumps never shrink."""
    for power in range(4, 41, 4):
        k = np.arange(2.0 * power)
        cdf = np.exp(2.0**power * np.log1p(-(2.0 ** -k[1:])))
        # No continuous cdf is nearer to it than half the largest jump.
        assert np.diff(cdf).max() > 0.23
