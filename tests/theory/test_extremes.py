"""The law of the maximum: max-stability, the Gumbel limit with its known rates, and where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from xql_jax.theory.extremes import limiting_gumbel, maximum_distance, maximum_of_gumbels
from xql_jax.theory.gumbel import Gumbel

UNIFORM = stats.uniform()
instances = settings(max_examples=200, deadline=None, derandomize=True)
locations = st.integers(-500, 500).map(lambda i: i / 10)
scales = st.integers(-20, 20).map(lambda i: 10 ** (i / 10))  # 0.01 to 100


def distances(distribution, counts):
    """The distance from the limiting Gumbel at each count."""
    return np.array([maximum_distance(distribution, n, limiting_gumbel(distribution, n)) for n in counts])


@instances
@given(locations, scales, st.integers(1, 1000), st.integers(-50, 100))
def test_max_stability(location, scale, count, tenths):
    """Theorem 1, max-stability: F(x)^n is the cdf of G(location + scale log n, scale)."""
    gumbel = Gumbel(location, scale)
    maximum = maximum_of_gumbels(gumbel, count)
    x = maximum.location + maximum.scale * tenths / 10
    oracle = stats.gumbel_r.cdf(x, location, scale) ** count
    np.testing.assert_allclose(maximum.cdf(x), oracle, rtol=0, atol=1e-10)
    # The maximum of twice as many is told apart: at the mode the cdfs are exp(-1) and exp(-2).
    twice = maximum_of_gumbels(gumbel, 2 * count)
    assert maximum.cdf(maximum.location) - twice.cdf(maximum.location) > 0.23


@instances
@given(locations, scales, st.integers(2, 10**6))
def test_distance_of_gumbels_is_rounding(location, scale, count):
    """Theorem 1, max-stability: with its exact constants the distance is 0, with others it is not."""
    variables, gumbel = stats.gumbel_r(location, scale), Gumbel(location, scale)
    assert maximum_distance(variables, count, maximum_of_gumbels(gumbel, count)) < 1e-10
    # G(0, 1) and G(s, 1) differ most where their densities are alike; from s = log 2 by 1/2 - 1/4.
    np.testing.assert_allclose(
        maximum_distance(variables, 2 * count, maximum_of_gumbels(gumbel, count)), 0.25, rtol=1e-6
    )


@pytest.mark.parametrize("count", [2, 10, 1000])
def test_mirror_image_is_not_max_stable(count):
    """Section 3.2's noise -G: the maximum of n of them is no mirrored Gumbel, whatever its constants."""
    levels = np.array([0.05, 0.5, 0.95])
    single, maximum = stats.gumbel_l.ppf(levels), stats.gumbel_l.ppf(levels ** (1 / count))
    # The ratio of the distances to the median is one number for every location and scale.
    single_ratio, maximum_ratio = ((q[2] - q[1]) / (q[1] - q[0]) for q in (single, maximum))
    assert maximum_ratio > 1.2 * single_ratio
    with pytest.raises(ValueError, match="gumbel must have sign 1 to be max-stable, not -1"):
        maximum_of_gumbels(Gumbel(0.0, 1.0, -1), count)


@pytest.mark.parametrize(
    "distribution",
    [
        stats.expon(),
        stats.expon(scale=1e-3),
        stats.expon(loc=-5.0, scale=100.0),
        stats.gamma(1.0),  # the exponential by another route: SciPy's general log cdf
        stats.laplace(),
    ],
    ids=["exponential", "small", "shifted", "gamma", "laplace"],
)
def test_exponential_tails_converge_as_one_over_n(distribution):
    """Theorem 1 for the exponential tail: the distance is 2 / (e^2 n), up to terms of order 1 / n^2."""
    # (1 - y / n)^n is exp(-y) (1 - y^2 / 2n + ...) with y = exp(-z); y^2 exp(-y) / 2 is largest at y = 2.
    counts = 10.0 ** np.arange(2, 13)
    expected = 2 * np.exp(-2.0) / counts
    # Even at 10^12, where it is 3e-13, rounding leaves it two digits.
    assert (np.abs(distances(distribution, counts) - expected) < 1 / counts**2 + 2e-15).all()


@pytest.mark.parametrize(
    "distribution", [stats.logistic(), stats.logistic(3.0, 0.2), stats.gumbel_r(-1.0, 7.0)]
)
def test_nearly_exponential_tails_converge_as_one_over_n(distribution):
    """Theorem 1 for the logistic and, with the von Mises constants, for the Gumbel itself."""
    falls = np.diff(np.log10(distances(distribution, [10**2, 10**4, 10**6, 10**8, 10**10])))
    np.testing.assert_allclose(falls, -2.0, atol=0.01)


def test_normal_converges_as_one_over_log_n():
    """Theorem 1 for the normal: the distance is sup_z z^2 / 2 exp(-z - exp(-z)) / b_n^2; b_n^2 is 2 log n."""
    z = np.linspace(-4, 10, 100_001)
    constant = (0.5 * z**2 * np.exp(-z - np.exp(-z))).max()
    counts = [10**k for k in (4, 8, 12, 50, 100, 300)]
    quantiles = np.array([stats.norm.isf(1 / n) for n in counts])
    errors = np.abs(distances(stats.norm(), counts) * quantiles**2 / constant - 1)
    assert (np.diff(errors) < 0).all()
    assert errors[-1] < 0.005
    assert errors[2] < 0.1
    assert distances(stats.norm(), [10**12])[0] > 0.004  # so slow is it


@pytest.mark.parametrize(
    "distribution",
    [
        stats.expon(),
        stats.logistic(),
        stats.norm(),
        stats.norm(1e3, 1e-2),
        stats.gamma(3.0),
        stats.gamma(0.5),
        stats.laplace(),
        stats.gumbel_r(),
        stats.gumbel_l(),  # the noise -G of Section 3.2
    ],
    ids=lambda frozen: frozen.dist.name + str(frozen.args),
)
def test_maximum_tends_to_gumbel(distribution):
    """Theorem 1, first sentence, normalised: the distance falls with every further n."""
    found = distances(distribution, [10**k for k in (1, 2, 3, 4, 6, 8, 12)])
    assert (np.diff(found) < 0).all()
    assert found[0] < 0.1
    assert found[-1] < 0.01


def test_maximum_itself_has_no_limit():
    """Theorem 1 as printed leaves out the constants: no one Gumbel is near the maximum for all n."""
    once = limiting_gumbel(stats.norm(), 100)
    assert maximum_distance(stats.norm(), 100, once) < 0.03
    assert maximum_distance(stats.norm(), 10**4, once) > 0.9


@pytest.mark.slow
def test_bounded_variables_do_not_tend_to_gumbel():
    """Theorem 1, footnote 2, counts bounded variables in: the uniform's maximum is never near a Gumbel."""
    # (1 - y / n)^n tends to exp(-y), y = n (1 - x). At the end of the support, 1 less exp(-1 / e) is left.
    found = distances(UNIFORM, [10, 10**3, 10**6, 10**9])
    np.testing.assert_allclose(found, 1 - np.exp(-np.exp(-1.0)), rtol=1e-6)
    # Nor do other constants help: the best Gumbel of each n is as far away as that of another.
    for n in (10**2, 10**6):

        def distance(parameters, n=n):
            return maximum_distance(UNIFORM, n, Gumbel(1 + parameters[0] / n, np.exp(parameters[1]) / n))

        starts = [(shift, log_scale) for shift in (-3.0, -1.0, 0.0) for log_scale in (-2.0, -0.5, 1.0)]
        best = min(optimize.minimize(distance, start, method="Nelder-Mead").fun for start in starts)
        assert 0.12 < best < 0.14


@instances
@given(st.integers(-1000, 500), st.integers(-40, 40))
def test_no_gumbel_is_near_the_maximum_of_uniforms(shift, log_scale):
    """Theorem 1, footnote 2: whatever its location and scale."""
    n = 10**6
    assert maximum_distance(UNIFORM, n, Gumbel(1 + shift / 100 / n, np.exp(log_scale / 10) / n)) > 0.12


def test_heavy_tails_do_not_tend_to_gumbel():
    found = distances(stats.t(3.0), [10**4, 10**8, 10**12])  # to Frechet's law
    np.testing.assert_allclose(found, found[-1], rtol=0.01)
    assert found[-1] > 0.05


def test_exponential_tail_is_not_enough():
    """Theorem 1's condition: P(X > k) = 2^-k is an exponential tail, but the maximum's jumps never shrink."""
    for power in range(4, 41, 4):
        k = np.arange(2.0 * power)
        cdf = np.exp(2.0**power * np.log1p(-(2.0 ** -k[1:])))
        # No continuous cdf is nearer to it than half the largest jump.
        assert np.diff(cdf).max() > 0.23


class Wavering:
    """P(X > x) = exp(-x - sin(x) / 2) for x > 0: a smooth density whose hazard rate never settles."""

    def logcdf(self, x):
        return np.log1p(-np.exp(-np.maximum(x, 0.0) - np.sin(np.maximum(x, 0.0)) / 2))

    def isf(self, p):
        return optimize.brentq(lambda x: x + np.sin(x) / 2 + np.log(p), 0.0, 1000.0)


@pytest.mark.parametrize("log_count", [20.5, 22.0, 25.0])
def test_a_smooth_exponential_tail_is_not_enough(log_count):
    """Theorem 1's condition: an exponential tail with a smooth density may have no limit law either."""
    count = round(np.exp(log_count))
    start = Wavering().isf(1.0 / count)

    def distance(shift_and_log_scale):
        shift, log_scale = shift_and_log_scale
        return maximum_distance(Wavering(), count, Gumbel(start + shift, float(np.exp(log_scale))))

    best = optimize.minimize(
        distance, (0.0, 0.0), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-4}
    )
    assert best.fun > 0.03  # the exponential's is 1e-9 at these counts


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: maximum_of_gumbels(Gumbel(0.0, 1.0), 0), "count must be .*, not 0"),
        (lambda: maximum_of_gumbels(Gumbel(0.0, 1.0), 2.5), "count must be .*, not 2.5"),
        (lambda: limiting_gumbel(stats.norm(), 1), "count must be at least 2, not 1"),
        (lambda: limiting_gumbel(stats.norm(), -5), "count must be .*, not -5"),
        (lambda: limiting_gumbel(stats.beta(1.0, 2.0), 10**40), "density must be positive .*, not 0.0"),
        (lambda: maximum_distance(stats.norm(), 0, Gumbel(0.0, 1.0)), "count must be .*, not 0"),
        (
            lambda: maximum_distance(stats.norm(), 2, Gumbel(0.0, 1.0, -1)),
            "gumbel must have sign 1.*, not -1",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
