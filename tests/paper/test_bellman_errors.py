"""The laws fitted to Bellman errors: the one that they were drawn from wins, and scores are SciPy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xql_jax.workshop.paper.bellman_errors import fit_errors

LAWS = {
    "Gumbel (right-skewed)": stats.gumbel_r,
    "Gumbel (left-skewed)": stats.gumbel_l,
    "Gaussian": stats.norm,
    "logistic": stats.logistic,
}


@pytest.mark.parametrize("name", LAWS)
def test_the_law_of_the_samples_wins_and_scores_are_scipys(name):
    errors = LAWS[name].rvs(-0.7, 1.3, 20_000, random_state=np.random.default_rng(0))
    fits = fit_errors(errors.reshape(200, 100))
    assert len(fits) == 3
    for law, fit in fits.items():
        parameters = LAWS[law].fit(errors)
        log_likelihood = LAWS[law].logpdf(errors, *parameters).mean()
        np.testing.assert_allclose(fit.log_likelihood, log_likelihood, rtol=1e-8)
        statistic = stats.kstest(errors, LAWS[law](*parameters).cdf).statistic
        np.testing.assert_allclose(fit.kolmogorov_smirnov, statistic, atol=1e-5)
    winner = fits.pop(name)
    # The winner's statistic is that of 20,000 samples of the law itself: 0.012 is its 99.5% point.
    assert winner.kolmogorov_smirnov < 0.012
    assert all(fit.kolmogorov_smirnov > winner.kolmogorov_smirnov + 0.005 for fit in fits.values())
    assert all(fit.log_likelihood < winner.log_likelihood - 0.005 for fit in fits.values())


@settings(max_examples=100)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["gumbel", "normal", "laplace", "exponential"]),
    st.integers(2, 300),
    st.sampled_from([-100.0, 0.0, 100.0]),
    st.sampled_from([-500.0, 0.0, 7.0]),
    st.sampled_from([1e-30, 1e-2, 1.0, 100.0]),
)
def test_gumbel_fits_solve_their_likelihood_equations(seed, law, size, outlier, offset, scale):
    """The derivatives of the mean log-likelihood by the location and by log scale vanish: it has one peak."""
    errors = getattr(np.random.default_rng(seed), law)(size=size)
    errors[0] += outlier
    errors = scale * (offset + errors)
    for name, fit in fit_errors(errors).items():
        if "Gumbel" in name:
            location, scale = fit.law.args
            z = (errors - location) / scale * (1 if "right" in name else -1)
            found = [np.exp(-z).mean(), (z - z * np.exp(-z)).mean()]
            np.testing.assert_allclose(found, 1.0, atol=1e-6)


@settings(max_examples=100)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["logistic", "standard_cauchy", "exponential", "normal"]),
    st.integers(2, 300),
    st.sampled_from([0.0, 3.0, 1e6]),
    st.sampled_from([1e-3, 1.0, 100.0]),
    st.sampled_from([(), (-1e9,), (1e9,)]),
)
def test_logistic_fit_solves_its_likelihood_equations(seed, law, size, offset, scale, outliers):
    """The derivatives of the mean log-likelihood by the location and by log scale vanish: it has one peak."""
    errors = offset + scale * getattr(np.random.default_rng(seed), law)(size=size)
    errors = np.append(errors, outliers)
    location, scale = fit_errors(errors)["logistic"].law.args
    z = (errors - location) / scale
    found = [np.tanh(z / 2).mean(), (z * np.tanh(z / 2)).mean()]
    np.testing.assert_allclose(found, [0.0, 1.0], atol=1e-3 if outliers else 1e-6)
