"""The Gumbel distribution against SciPy, its likeliest fits, the Gumbel-max trick, and maxima."""

import numpy as np
import pytest
from cases import instances, seeds
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import logsumexp, softmax

from xql_jax.theory.gumbel import Gumbel, fit_gaussian, fit_gumbel, gumbel_max_law

locations = st.integers(-500, 500).map(lambda i: i / 10)
scales = st.integers(-20, 20).map(lambda i: 10 ** (i / 10))  # 0.01 to 100
vectors = st.lists(st.integers(-20, 20).map(lambda i: i / 10), min_size=1, max_size=6)


@instances
@given(locations, scales, st.integers(-60, 60))
def test_distribution_is_scipys(location, scale, tenths):
    gumbel, oracle = Gumbel(location, scale), stats.gumbel_r(location, scale)
    x = location + scale * tenths / 10
    # Both form z from the rounded x; deep in the short tail log p multiplies its rounding by exp(6).
    rounding = 1e-12 * (1 + abs(location) / scale)
    np.testing.assert_allclose(gumbel.density(x), oracle.pdf(x), rtol=1e3 * rounding, atol=1e-300)
    np.testing.assert_allclose(gumbel.mean, oracle.mean(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_density_as_printed_lacks_the_scale(beta):
    """Section 2.2 prints p(x) = exp(-(z + exp(-z))): that integrates to beta, not to 1."""

    def printed(x):
        z = (x - 3.0) / beta
        return np.exp(-(z + np.exp(-z)))

    ends = (3.0 - 6 * beta, 3.0 + 40 * beta)
    np.testing.assert_allclose(integrate.quad(printed, *ends)[0], beta, rtol=1e-9)
    np.testing.assert_allclose(integrate.quad(Gumbel(3.0, beta).density, *ends)[0], 1.0, rtol=1e-9)


@instances
@given(
    seeds,
    st.sampled_from(["gumbel", "normal", "laplace", "exponential"]),
    st.integers(2, 200),
    st.sampled_from([-100.0, 0.0, 100.0]),
    locations,
    scales,
)
def test_gumbel_fit_is_the_likeliest(seed, law, size, outlier, offset, unit):
    """The derivatives of the mean log-likelihood by location and scale vanish: it has one peak."""
    samples = getattr(np.random.default_rng(seed), law)(size=size)
    samples[0] += outlier
    location, scale = fit_gumbel(offset + unit * samples)
    z = (offset + unit * samples - location) / scale
    np.testing.assert_allclose([np.exp(-z).mean(), (z - z * np.exp(-z)).mean()], 1.0, atol=1e-6)


@instances
@given(vectors, scales, st.integers(-50, 100))
def test_gumbel_max_trick_exactly(x, beta, tenths):
    """Section 2.2, Gumbel-Max trick: prod_i F(t - x_i) is the cdf of G(beta log sum exp(x / beta), beta)."""
    x = np.array(x)
    law, probabilities = gumbel_max_law(x, beta)
    t = max(x) + beta * tenths / 10
    product = np.prod(stats.gumbel_r.cdf((t - x) / beta))
    np.testing.assert_allclose(stats.gumbel_r.cdf(t, law.location, law.scale), product, rtol=0, atol=1e-12)
    np.testing.assert_allclose(law.location, beta * logsumexp(x / beta), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(probabilities, softmax(x / beta), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(
    ("samples", "words"), [([], "empty"), ([1.0, np.nan], "finite"), ([3.0, 3.0], "all be equal")]
)
def test_samples_without_a_fit_are_refused(samples, words):
    for fit in (fit_gaussian, fit_gumbel):
        with pytest.raises(ValueError, match=f"samples must .*{words}"):
            fit(samples)


# Theorem 1 says that the maximum of n variables with exponential tails "follows" the Gumbel distribution as n
# grows. What converges is (max - b_n) / a_n. A sufficient condition (von Mises) is that the slope of the
# reciprocal hazard rate, (1 - F(x)) / f(x), goes to 0. For bounded variables the limit is another law.


def maximum_distance(distribution, count, gumbel):
    """The largest difference between F(x)^count, the cdf of the maximum of count variables, and Gumbel's."""
    low, high, largest = -3.6, 36.0, 0.0  # beyond, the Gumbel cdf is within 2e-16 of 0 and of 1
    for _ in range(5):  # finer and finer around the largest; logcdf keeps the upper tail's precision
        z = np.linspace(low, high, 4001)
        x = gumbel.location + gumbel.scale * z
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
    laws = [Gumbel(b, 1.0 / (n * normal.pdf(b))) for b, n in zip(quantiles, counts, strict=True)]
    found = [maximum_distance(normal, n, law) for n, law in zip(counts, laws, strict=True)]
    assert 0.03 > found[0] > found[1] > found[2]
    assert maximum_distance(normal, counts[1], laws[0]) > 0.9


@instances
@given(st.integers(-1000, 500), st.integers(-40, 40))
def test_no_gumbel_is_near_the_maximum_of_bounded_variables(shift, log_scale):
    """Theorem 1, footnote 2: whatever its location and scale."""
    n = 10**6
    law = Gumbel(1 + shift / 100 / n, np.exp(log_scale / 10) / n)
    assert maximum_distance(stats.uniform(), n, law) > 0.12


def test_exponential_tail_is_not_enough():
    """Theorem 1's condition: P(X > k) = 2^-k is an exponential tail, but the maximum's jumps never shrink."""
    for power in range(4, 41, 4):
        k = np.arange(2.0 * power)
        cdf = np.exp(2.0**power * np.log1p(-(2.0 ** -k[1:])))
        # No continuous cdf is nearer to it than half the largest jump.
        assert np.diff(cdf).max() > 0.23
