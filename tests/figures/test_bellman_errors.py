"""The laws fitted to Bellman errors: the one that they were drawn from wins, and scores are SciPy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xql_jax.figures.bellman_errors import Logistic, fit_errors, fit_logistic

NAN = float("nan")
LAWS = {
    "gumbel": (stats.gumbel_r, 1),
    "mirrored gumbel": (stats.gumbel_l, -1),
    "gaussian": (stats.norm, None),
    "logistic": (stats.logistic, None),
}


def drawn(name, size=20_000, location=-0.7, scale=1.3, seed=0):
    return LAWS[name][0].rvs(location, scale, size, random_state=np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", LAWS)
def test_the_law_of_the_samples_wins(name, seed):
    fits = fit_errors(drawn(name, seed=seed))
    by_name = {name.split()[-1]: getattr(fits, name.split()[-1]) for name in LAWS}
    winner = by_name.pop(name.split()[-1])
    # The winner's statistic is that of 20,000 samples of the law itself: 0.012 is its 99.5% point.
    assert winner.kolmogorov_smirnov < 0.012
    assert all(fit.kolmogorov_smirnov > winner.kolmogorov_smirnov + 0.005 for fit in by_name.values())
    assert all(fit.log_likelihood < winner.log_likelihood - 0.005 for fit in by_name.values())
    if LAWS[name][1]:
        assert fits.gumbel.law.sign == LAWS[name][1]


@pytest.mark.parametrize("name", LAWS)
def test_scores_are_scipys(name):
    errors = drawn(name, size=3000)
    fits = fit_errors(errors.reshape(30, 100))
    sign = fits.gumbel.law.sign
    oracles = {
        "gumbel": (stats.gumbel_r if sign == 1 else stats.gumbel_l),
        "gaussian": stats.norm,
        "logistic": stats.logistic,
    }
    for law, oracle in oracles.items():
        parameters = oracle.fit(errors)
        fit = getattr(fits, law)
        np.testing.assert_allclose(fit.log_likelihood, oracle.logpdf(errors, *parameters).mean(), rtol=1e-8)
        statistic = stats.kstest(errors, oracle(*parameters).cdf).statistic
        np.testing.assert_allclose(fit.kolmogorov_smirnov, statistic, atol=1e-5)
    # The likelier of the two signs was kept.
    other = stats.gumbel_l if sign == 1 else stats.gumbel_r
    assert fits.gumbel.log_likelihood >= other.logpdf(errors, *other.fit(errors)).mean()
    np.testing.assert_array_equal(fits.errors, errors)
    assert fits.clipped == 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["logistic", "standard_cauchy", "exponential", "normal"]),
    st.integers(2, 300),
    st.sampled_from([0.0, 3.0, 1e6]),
    st.sampled_from([1e-3, 1.0, 100.0]),
)
def test_logistic_fit_solves_its_likelihood_equations(seed, law, size, offset, scale):
    errors = offset + scale * getattr(np.random.default_rng(seed), law)(size=size)
    fit = fit_logistic(errors)
    z = (errors - fit.location) / fit.scale
    # The derivatives of the mean log-likelihood by the location and by log scale: it has one peak.
    np.testing.assert_allclose(np.tanh(z / 2).mean(), 0.0, atol=1e-6)
    np.testing.assert_allclose((z * np.tanh(z / 2)).mean(), 1.0, atol=1e-6)


@pytest.mark.parametrize("outlier", [-1e9, 1e9])
def test_logistic_fit_with_one_outlier_among_many(outlier):
    errors = np.append(np.random.default_rng(0).normal(size=10_000), outlier)
    fit = fit_logistic(errors)
    z = (errors - fit.location) / fit.scale
    np.testing.assert_allclose([np.tanh(z / 2).mean(), (z * np.tanh(z / 2)).mean()], [0.0, 1.0], atol=1e-6)


def test_logistic_is_scipys():
    law, oracle = Logistic(-2.0, 0.3), stats.logistic(-2.0, 0.3)
    x = np.linspace(-60.0, 60.0, 1001)
    np.testing.assert_allclose(law.log_density(x), oracle.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(law.density(x), oracle.pdf(x), rtol=1e-9)
    np.testing.assert_allclose(law.cdf(x), oracle.cdf(x), rtol=1e-9)


def test_clip_moves_outliers_to_the_ends_and_keeps_them_from_deciding():
    """D.2: the clip "prevented over-fitting to large outliers"."""
    errors = np.array([-50.0, -3.0, -1.0, 0.0, 2.0, 3.0, 4.0, 1e6])
    fits = fit_errors(errors, clip_range=(-3, 3.0))
    np.testing.assert_array_equal(fits.errors, [-3.0, -3.0, -1.0, 0.0, 2.0, 3.0, 3.0, 3.0])
    assert fits.clipped == 3
    assert errors[0] == -50.0  # the caller's are left alone
    errors = np.append(drawn("mirrored gumbel"), [2000.0, 3000.0])
    assert fit_errors(errors).gumbel.law.sign == 1
    fits = fit_errors(errors, clip_range=(-15.0, 5.0))
    assert fits.gumbel.law.sign == -1
    np.testing.assert_allclose([fits.gumbel.law.location, fits.gumbel.law.scale], [-0.7, 1.3], atol=0.05)


@pytest.mark.parametrize(
    ("errors", "clip_range", "message"),
    [
        ([], None, "errors must be finite and not empty"),
        ([1.0, NAN], None, "errors must be finite"),
        ([2.0, 2.0], None, "errors must not all be equal, as they are to 2.0"),
        ([2.0, 3.0], (0.0, 1.0), "errors must not all be equal, as they are to 1.0"),
        ([2.0, 3.0], (NAN, 1.0), r"clip_range must go from a lower .*, not \(nan, 1.0\)"),
    ],
)
def test_errors_without_a_fit_are_refused(errors, clip_range, message):
    with pytest.raises(ValueError, match=message):
        fit_errors(errors, clip_range=clip_range)
