"""The Gumbel distribution as printed, the Gumbel-max trick, and maxima."""

import numpy as np
import pytest
from cases import instances
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from xql_jax.theory.gumbel import gumbel_max_law

scales = st.integers(-20, 20).map(lambda i: 10 ** (i / 10))  # 0.01 to 100
vectors = st.lists(st.integers(-20, 20).map(lambda i: i / 10), min_size=1, max_size=6)


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_density_as_printed_lacks_the_scale(beta):
    """Section 2.2 prints p(x) = exp(-(z + exp(-z))): that integrates to beta, not to 1."""

    def printed(x):
        z = (x - 3.0) / beta
        return np.exp(-(z + np.exp(-z)))

    ends = (3.0 - 6 * beta, 3.0 + 40 * beta)
    np.testing.assert_allclose(integrate.quad(printed, *ends)[0], beta, rtol=1e-9)
    np.testing.assert_allclose(integrate.quad(stats.gumbel_r(3.0, beta).pdf, *ends)[0], 1.0, rtol=1e-9)


@instances
@given(vectors, scales, st.integers(-50, 100))
def test_gumbel_max_trick_exactly(x, beta, tenths):
    """Section 2.2, Gumbel-Max trick: prod_i F(t - x_i) is the cdf of G(beta log sum exp(x / beta), beta)."""
    x = np.array(x)
    law, probabilities = gumbel_max_law(x, beta)
    t = max(x) + beta * tenths / 10
    product = np.prod(stats.gumbel_r.cdf((t - x) / beta))
    np.testing.assert_allclose(law.cdf(t), product, rtol=0, atol=1e-12)
    weights = np.exp((x - x.max()) / beta)
    np.testing.assert_allclose(probabilities, weights / weights.sum(), rtol=1e-12, atol=1e-300)


def test_the_gumbel_max_trick_of_several_rows_at_once_and_of_no_number():
    rows = np.random.default_rng(0).normal(size=(3, 4))
    law, probabilities = gumbel_max_law(rows, 0.7)
    alone = [gumbel_max_law(row, 0.7) for row in rows]
    np.testing.assert_allclose(law.mean(), [each.mean() for each, _ in alone], rtol=1e-14)
    np.testing.assert_allclose(probabilities, [of_row for _, of_row in alone], rtol=1e-14)
    for number in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="x must be finite"):
            gumbel_max_law([0.0, number], 1.0)


@pytest.mark.parametrize("beta", [1e-6, 1e-300])
def test_the_gumbel_max_trick_loses_no_digits_to_a_common_level(beta):
    x = np.array([1e8, 1e8 - 1e-6])
    law, probabilities = gumbel_max_law(x, beta)
    near_0, wanted = gumbel_max_law(x - x[0], beta)
    np.testing.assert_array_equal(probabilities, wanted)
    assert law.median() == x[0] + near_0.median()


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
