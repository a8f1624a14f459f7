"""The laws fitted to Bellman errors: the one that they were drawn from wins; and what the picture shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy import stats

from xql_jax.reports import error_fits
from xql_jax.reports.error_fits import Logistic, fit_errors, fit_logistic, plot_errors

NAN = float("nan")
LAWS = {
    "gumbel": (stats.gumbel_r, 1),
    "mirrored gumbel": (stats.gumbel_l, -1),
    "gaussian": (stats.norm, None),
    "logistic": (stats.logistic, None),
}


def drawn(name, size=20_000, location=-0.7, scale=1.3, seed=0):
    return LAWS[name][0].rvs(location, scale, size, random_state=np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", LAWS)
def test_the_law_of_the_samples_wins(name, seed):
    fits = fit_errors(drawn(name, seed=seed))
    by_name = {name.split()[-1]: getattr(fits, name.split()[-1]) for name in LAWS}
    winner = name.split()[-1]
    assert max(by_name, key=lambda law: by_name[law].log_likelihood) == winner
    assert min(by_name, key=lambda law: by_name[law].kolmogorov_smirnov) == winner
    # The winner's statistic is that of 20,000 samples of the law itself: 0.012 is its 99.5% point.
    best = by_name.pop(winner)
    assert best.kolmogorov_smirnov < 0.012
    assert all(fit.kolmogorov_smirnov > best.kolmogorov_smirnov + 0.005 for fit in by_name.values())
    assert all(fit.log_likelihood < best.log_likelihood - 0.005 for fit in by_name.values())
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


@settings(max_examples=200, deadline=None, derandomize=True)
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


@pytest.mark.parametrize("outlier", [-1e9, 1e3, 1e9])
def test_logistic_fit_with_one_outlier_among_many(outlier):
    errors = np.append(np.random.default_rng(0).normal(size=10_000), outlier)
    fit = fit_logistic(errors)
    z = (errors - fit.location) / fit.scale
    np.testing.assert_allclose([np.tanh(z / 2).mean(), (z * np.tanh(z / 2)).mean()], [0.0, 1.0], atol=1e-6)


def test_logistic_fit_that_does_not_settle_is_no_fit(monkeypatch):
    monkeypatch.setattr(error_fits, "MAX_NEWTON_STEPS", 2)
    with pytest.raises(ArithmeticError, match="no logistic distribution found in 2 steps"):
        fit_logistic(drawn("gumbel"))


def test_logistic_is_scipys():
    law, oracle = Logistic(-2.0, 0.3), stats.logistic(-2.0, 0.3)
    x = np.linspace(-60.0, 60.0, 1001)
    np.testing.assert_allclose(law.log_density(x), oracle.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(law.density(x), oracle.pdf(x), rtol=1e-9)
    np.testing.assert_allclose(law.cdf(x), oracle.cdf(x), rtol=1e-9)


def test_clip_moves_outliers_to_the_ends_and_counts_them():
    errors = np.array([-50.0, -3.0, -1.0, 0.0, 2.0, 3.0, 4.0, 1e6])
    fits = fit_errors(errors, clip_range=(-3, 3.0))
    np.testing.assert_array_equal(fits.errors, [-3.0, -3.0, -1.0, 0.0, 2.0, 3.0, 3.0, 3.0])
    assert fits.clipped == 3
    np.testing.assert_allclose(fits.gaussian.law.mean, fits.errors.mean())
    assert errors[0] == -50.0  # the caller's are left alone


def test_clip_keeps_outliers_from_deciding():
    """D.2: the clip "prevented over-fitting to large outliers"."""
    errors = np.append(drawn("mirrored gumbel"), [2000.0, 3000.0])
    assert fit_errors(errors).gumbel.law.sign == 1
    fits = fit_errors(errors, clip_range=(-15.0, 5.0))
    assert fits.gumbel.law.sign == -1
    np.testing.assert_allclose([fits.gumbel.law.location, fits.gumbel.law.scale], [-0.7, 1.3], atol=0.05)


def test_sign_of_symmetric_errors_is_a_matter_of_chance_but_not_of_order():
    errors = drawn("gaussian")
    kept, mirrored = fit_errors(errors), fit_errors(-errors)
    assert kept.gumbel.law.sign == -mirrored.gumbel.law.sign
    np.testing.assert_allclose(kept.gumbel.log_likelihood, mirrored.gumbel.log_likelihood, rtol=1e-10)
    np.testing.assert_allclose(kept.logistic.law.location, -mirrored.logistic.law.location, atol=1e-8)


@pytest.mark.parametrize(
    ("errors", "clip_range", "message"),
    [
        ([], None, "errors is empty"),
        ([1.0, NAN], None, r"errors must be finite, not nan as at \(1,\)"),
        ([1.0, -np.inf], (-1.0, 2.0), r"errors must be finite, not -inf as at \(1,\)"),
        ([2.0, 2.0], None, "errors must not all be equal, as they are to 2.0"),
        ([2.0, 3.0], (0.0, 1.0), "errors must not all be equal, as they are to 1.0"),
        ([2.0, 3.0], (1.0, 1.0), r"clip_range must go from a lower .*, not \(1.0, 1.0\)"),
        ([2.0, 3.0], (1.0, -1.0), r"clip_range must go from a lower .*, not \(1.0, -1.0\)"),
        ([2.0, 3.0], (NAN, 1.0), r"clip_range must go from a lower .*, not \(nan, 1.0\)"),
    ],
)
def test_errors_without_a_fit_are_refused(errors, clip_range, message):
    with pytest.raises(ValueError, match=message):
        fit_errors(errors, clip_range=clip_range)


def test_picture_shows_the_histogram_and_the_three_fits():
    errors = drawn("mirrored gumbel")
    fits = fit_errors(errors, clip_range=(-6.0, 3.0))
    axes = Figure().add_subplot()
    plot_errors(fits, axes, title="a title", units="reward units")
    assert axes.get_title() == "a title"
    assert axes.get_xlabel() == "Bellman error (reward units)"
    assert axes.get_ylabel() == "density (1 / reward units)"
    # The bars are a density: their areas sum to 1, over the whole range.
    assert sum(bar.get_width() * bar.get_height() for bar in axes.patches) == pytest.approx(1.0)
    assert axes.patches[0].get_x() == fits.errors.min() == -6.0
    laws = (fits.gumbel, fits.gaussian, fits.logistic)
    assert len(axes.lines) == 3
    for line, fit in zip(axes.lines, laws, strict=True):
        np.testing.assert_allclose(line.get_ydata(), fit.law.density(line.get_xdata()))
        assert (line.get_xdata()[0], line.get_xdata()[-1]) == (fits.errors.min(), fits.errors.max())
    # Told apart without colour.
    assert len({line.get_linestyle() for line in axes.lines}) == 3
    assert len({line.get_color() for line in axes.lines}) == 3
    scores = [f"{fit.log_likelihood:.3f} nats an error, KS {fit.kolmogorov_smirnov:.3f}" for fit in laws]
    moved = int(((errors < -6.0) | (errors > 3.0)).sum())
    assert sorted(text.get_text() for text in axes.get_legend().texts) == sorted(
        [
            f"20,000 errors, {moved} moved to the ends",
            f"Gumbel (left-skewed): {scores[0]}",
            f"Gaussian: {scores[1]}",
            f"logistic: {scores[2]}",
        ]
    )


def test_legend_says_which_way_the_gumbel_leans_and_no_clip_where_none_was():
    axes = Figure().add_subplot()
    plot_errors(fit_errors(drawn("gumbel")), axes, title="", units="m")
    labels = [text.get_text() for text in axes.get_legend().texts]
    assert any(label.startswith("Gumbel (right-skewed): ") for label in labels)
    assert "20,000 errors" in labels


def test_panels_share_a_figure_and_become_a_picture(tmp_path):
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, 3)
    names = ["gumbel", "mirrored gumbel", "logistic"]
    for axes, name in zip(panels, names, strict=True):
        plot_errors(fit_errors(drawn(name)), axes, title=name, units="reward units")
    figure.savefig(tmp_path / "errors.png", dpi=100)
    image = imread(tmp_path / "errors.png")
    assert image.shape[:2] == (400, 1200)
    # In each third, pixels of all three curves' colours.
    for third in np.split(image[..., :3], 3, axis=1):
        for line in panels[0].lines:
            color = [int(line.get_color()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
            assert (np.abs(third - color).max(-1) < 0.05).sum() > 50
