"""The Gumbel distribution against SciPy, its likeliest fit, Gumbel regression and the Gumbel-max trick."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from scipy.special import logsumexp, softmax

from xql_jax.theory.gumbel import Gaussian, Gumbel, fit_gaussian, fit_gumbel, gumbel_max, gumbel_max_law
from xql_jax.theory.log_partition import log_partition

NAN = float("nan")
SCIPY = {1: stats.gumbel_r, -1: stats.gumbel_l}
# So low that none of 200 sound samples falls below it but one time in 5,000.
LEAST_P_VALUE = 1e-6

instances = settings(max_examples=200, deadline=None, derandomize=True)
signs = st.sampled_from([1, -1])
locations = st.integers(-500, 500).map(lambda i: i / 10)
scales = st.integers(-20, 20).map(lambda i: 10 ** (i / 10))  # 0.01 to 100
seeds = st.integers(0, 2**32 - 1)
vectors = st.lists(st.integers(-20, 20).map(lambda i: i / 10), min_size=1, max_size=6)


@st.composite
def varied_samples(draw):
    """Samples of several laws, skewed and not, short and long, some with an outlier or with many ties."""
    generator = np.random.default_rng(draw(seeds))
    law = draw(st.sampled_from(["gumbel", "normal", "logistic", "laplace", "exponential"]))
    size = draw(st.integers(2, 200))
    if law == "exponential":
        samples = generator.exponential(1.0, size)
    else:
        samples = getattr(generator, law)(0.0, 1.0, size)
    if draw(st.booleans()):
        samples[0] += draw(st.sampled_from([-100.0, -10.0, 10.0, 100.0]))
    if draw(st.booleans()):
        samples = np.round(samples, 1)
        samples[-1] += 1.0 if samples.min() == samples.max() else 0.0
    return draw(locations) + draw(scales) * samples


@instances
@given(locations, scales, signs, st.integers(-60, 60))
def test_distribution_is_scipys(location, scale, sign, tenths):
    gumbel, oracle = Gumbel(location, scale, sign), SCIPY[sign](location, scale)
    x = location + scale * tenths / 10
    # Both form z from the rounded x; deep in the short tail log p multiplies its rounding by exp(6).
    rounding = 1e-12 * (1 + abs(location) / scale)
    np.testing.assert_allclose(gumbel.log_density(x), oracle.logpdf(x), rtol=100 * rounding, atol=rounding)
    np.testing.assert_allclose(gumbel.density(x), oracle.pdf(x), rtol=1e3 * rounding, atol=1e-300)
    np.testing.assert_allclose(gumbel.cdf(x), oracle.cdf(x), rtol=1e3 * rounding, atol=1e-300)
    moments = [float(moment) for moment in oracle.stats("mvs")]
    np.testing.assert_allclose(
        [gumbel.mean, gumbel.variance, gumbel.skewness], moments, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_density_as_printed_lacks_the_scale(beta):
    """Section 2.2 prints p(x) = exp(-(z + exp(-z))): that integrates to beta, not to 1."""

    def printed(x):
        z = (x - 3.0) / beta
        return np.exp(-(z + np.exp(-z)))

    ends = (3.0 - 6 * beta, 3.0 + 40 * beta)
    np.testing.assert_allclose(integrate.quad(printed, *ends)[0], beta, rtol=1e-9)
    for sign in (1, -1):
        flipped = ends if sign == 1 else (6.0 - ends[1], 6.0 - ends[0])
        np.testing.assert_allclose(
            integrate.quad(Gumbel(3.0, beta, sign).density, *flipped)[0], 1.0, rtol=1e-9
        )


@pytest.mark.parametrize("sign", [1, -1])
def test_far_tails_are_limits_and_not_nan(sign):
    with np.errstate(all="raise", under="ignore"):
        short, long = (Gumbel(0.0, 1.0, sign).density(sign * x) for x in (-1e6, 1e6))
        assert (short, long) == (0.0, 0.0)
        assert Gumbel(0.0, 1.0, sign).cdf(-1e6) == 0.0
        assert Gumbel(0.0, 1.0, sign).cdf(1e6) == 1.0
    # The left tail keeps its relative precision: P(X <= x) is exp(-exp(6)), and 1 - exp(-exp(-40)).
    assert 0.0 < Gumbel(0.0, 1.0, sign).cdf(-6.0 if sign == 1 else -40.0) < 1e-17


@pytest.mark.parametrize("sign", [1, -1])
def test_samples_follow_the_distribution(sign):
    samples = Gumbel(-4.0, 2.5, sign).sample(np.random.default_rng(0), (100, 200))
    assert samples.shape == (100, 200)
    assert stats.kstest(samples.ravel(), SCIPY[sign](-4.0, 2.5).cdf).pvalue > 0.001
    assert stats.kstest(samples.ravel(), SCIPY[-sign](-4.0, 2.5).cdf).pvalue < 1e-30


@instances
@given(varied_samples(), signs)
def test_gumbel_fit_is_as_likely_as_scipys(samples, sign):
    fit = fit_gumbel(samples, sign)
    location, scale = SCIPY[sign].fit(samples)
    ours = SCIPY[sign].logpdf(samples, fit.location, fit.scale).mean()
    assert ours >= SCIPY[sign].logpdf(samples, location, scale).mean() - 1e-9


@instances
@given(varied_samples(), signs, st.integers(0, 7))
def test_gumbel_fit_is_the_likeliest(samples, sign, direction):
    # The likelihood has one peak, so no neighbour in any direction may be likelier.
    fit = fit_gumbel(samples, sign)
    angle = direction * np.pi / 4
    neighbour = Gumbel(
        fit.location + 1e-3 * np.cos(angle) * fit.scale, fit.scale * np.exp(1e-3 * np.sin(angle)), sign
    )
    assert fit.log_density(samples).mean() > neighbour.log_density(samples).mean()


@instances
@given(varied_samples())
def test_gaussian_fit_is_scipys(samples):
    fit = fit_gaussian(samples)
    mean, deviation = stats.norm.fit(samples)
    np.testing.assert_allclose(fit.mean, mean, atol=1e-12 * np.abs(samples).max())
    np.testing.assert_allclose(fit.standard_deviation, deviation, rtol=1e-9)
    np.testing.assert_allclose(
        fit.log_density(samples), stats.norm.logpdf(samples, mean, deviation), rtol=1e-7
    )
    np.testing.assert_allclose(fit.density(samples), stats.norm.pdf(samples, mean, deviation), rtol=1e-6)
    np.testing.assert_allclose(fit.cdf(samples), stats.norm.cdf(samples, mean, deviation), rtol=1e-6)


@instances
@given(
    seeds, signs, st.sampled_from([0.0, 1.0, -1e6, 1e6]), st.sampled_from([1e-200, 1e-12, 1e-3, 1.0, 1e100])
)
def test_fits_follow_offset_and_unit(seed, sign, offset, unit):
    # The samples that rounding leaves of offset + unit * noise; their offset is taken away again exactly.
    noise = np.random.default_rng(seed).gumbel(size=50)
    samples = offset + unit * noise
    if samples.min() == samples.max():
        for fit in (fit_gaussian, lambda x: fit_gumbel(x, sign)):
            with pytest.raises(ValueError, match="samples must not all be equal"):
                fit(samples)
        return
    rest = (samples - offset) / unit
    reference, gaussian = fit_gumbel(rest, sign), fit_gaussian(rest)
    fit, fitted_gaussian = fit_gumbel(samples, sign), fit_gaussian(samples)
    rounding = 1e-15 * abs(offset) + 1e-11 * unit * np.abs(rest).max()
    np.testing.assert_allclose(fit.scale, unit * reference.scale, rtol=1e-10)
    np.testing.assert_allclose(fit.location, offset + unit * reference.location, rtol=0, atol=rounding)
    np.testing.assert_allclose(
        fitted_gaussian.standard_deviation, unit * gaussian.standard_deviation, rtol=1e-10
    )
    np.testing.assert_allclose(fitted_gaussian.mean, offset + unit * gaussian.mean, rtol=0, atol=rounding)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("outlier", [-1e9, 1e9])
def test_one_outlier_among_many(sign, outlier):
    samples = np.append(np.random.default_rng(0).normal(size=100_000), outlier)
    fit = fit_gumbel(samples, sign)
    weights = softmax(-sign * samples / fit.scale)
    balance = sign * (samples.mean() - weights @ samples)  # the likelihood equation of the scale
    np.testing.assert_allclose(balance, fit.scale, rtol=1e-8)


@pytest.mark.parametrize("sign", [1, -1])
def test_fit_finds_what_the_samples_were_drawn_from(sign):
    fit = fit_gumbel(Gumbel(7.0, 0.3, sign).sample(np.random.default_rng(1), 100_000), sign)
    np.testing.assert_allclose([fit.location, fit.scale], [7.0, 0.3], atol=0.005)  # five standard errors
    assert fit.sign == sign


def test_fit_to_two_samples_by_hand():
    # At 0 and d, scale = d / 2 - d w / (1 + w) = d / 2 tanh(d / (2 scale)): d = 2 u scale with u tanh(u) = 1.
    u = optimize.brentq(lambda u: u * np.tanh(u) - 1.0, 1.0, 2.0, xtol=1e-15)
    fit = fit_gumbel([5.0, 11.0], 1)
    np.testing.assert_allclose(fit.scale, 3.0 / u, rtol=1e-12)
    np.testing.assert_allclose(fit.location, 5.0 - 3.0 / u * np.log((1 + np.exp(-2 * u)) / 2), rtol=1e-12)


@instances
@given(varied_samples(), scales)
def test_log_partition_is_the_likeliest_location(samples, ratio):
    """Eq. 6 and 7: under noise -G(0, beta) the likeliest h is beta log mean exp(x / beta)."""
    # A scale far below that of the samples, where one of them decides, and far above it too.
    beta = ratio * samples.std()
    h = log_partition(samples, beta)

    def log_likelihood(location):
        return Gumbel(float(location), beta, -1).log_density(samples).mean()

    z = (samples - h) / beta
    # Eq. 6 is the log-likelihood but for the constant -log beta; Eq. 7 is Eq. 6 turned over, less 1.
    np.testing.assert_allclose(log_likelihood(h) + np.log(beta), (z - np.exp(z)).mean(), rtol=1e-9)
    loss = (np.expm1(z) - z).mean()
    np.testing.assert_allclose(log_likelihood(h), -loss - 1.0 - np.log(beta), rtol=1e-9)
    best = optimize.minimize_scalar(
        lambda shift: -log_likelihood(h + shift * beta), bounds=(-2.0, 2.0), method="bounded"
    )
    np.testing.assert_allclose(best.x, 0.0, atol=1e-4)


@instances
@given(varied_samples())
def test_fit_with_both_parameters_is_gumbel_regression_at_its_scale(samples):
    """Eq. 7: the likeliest location is L^beta(x) with sign -1, and -L^beta(-x) with sign 1."""
    left, right = fit_gumbel(samples, -1), fit_gumbel(samples, 1)
    size = np.abs(samples).max()
    mean_exponential = logsumexp(samples / left.scale) - np.log(samples.size)
    np.testing.assert_allclose(left.location, left.scale * mean_exponential, atol=1e-9 * size)
    mean_exponential = logsumexp(-samples / right.scale) - np.log(samples.size)
    np.testing.assert_allclose(right.location, -right.scale * mean_exponential, atol=1e-9 * size)


@instances
@given(vectors, scales, st.integers(-50, 100))
def test_gumbel_max_trick_exactly(x, beta, tenths):
    """Section 2.2, Gumbel-Max trick: prod_i F(t - x_i) is the cdf of G(beta log sum exp(x / beta), beta)."""
    law, _ = gumbel_max_law(x, beta)
    t = max(x) + beta * tenths / 10
    product = np.prod(stats.gumbel_r.cdf((t - np.array(x)) / beta))
    np.testing.assert_allclose(law.cdf(t), product, rtol=0, atol=1e-12)
    np.testing.assert_allclose(law.location, beta * logsumexp(np.array(x) / beta), rtol=1e-12, atol=1e-12)


@instances
@given(vectors, scales)
def test_softmax_exactly(x, beta):
    """Section 2.2, Gumbel-Max trick: P(i wins), the integral of p_i prod_{j != i} F_j, is the softmax."""
    x = np.array(x)
    _, probabilities = gumbel_max_law(x, beta)
    np.testing.assert_allclose(probabilities, softmax(x / beta), rtol=1e-12, atol=1e-300)
    # Over the level u = F_i of its own noise the integrand is prod_{j != i} u ** exp((x_j - x_i) / beta).
    winner = x.argmax()
    powers = np.delete(np.exp((x - x[winner]) / beta), winner)
    chance, _ = integrate.quad(lambda u: np.prod(u**powers), 0.0, 1.0)
    np.testing.assert_allclose(probabilities[winner], chance, atol=1e-7)


@instances
@given(vectors, st.integers(-5, 10).map(lambda i: 10 ** (i / 10)), seeds)
def test_gumbel_max_trick_by_sampling(x, beta, seed):
    """Section 2.2, Gumbel-Max trick: max(x + noise) and its index follow their laws, at no other beta."""
    maxima, indices = gumbel_max(np.random.default_rng(seed), x, beta, 2000)
    assert maxima.shape == indices.shape == (2000,)
    law, probabilities = gumbel_max_law(x, beta)
    assert stats.kstest(maxima, law.cdf).pvalue > LEAST_P_VALUE
    for wrong_beta in (beta / 1.5, beta * 1.5):
        wrong_law, _ = gumbel_max_law(x, wrong_beta)
        assert stats.kstest(maxima, wrong_law.cdf).pvalue < LEAST_P_VALUE
    counts = np.bincount(indices, minlength=len(x))
    # Entries too rare for the chi-square law are counted as one.
    common = 2000 * probabilities >= 20
    observed = np.append(counts[common], counts[~common].sum())
    expected = 2000 * np.append(probabilities[common], probabilities[~common].sum())
    kept = expected >= 5
    assert counts[~common].sum() <= 100
    if kept.sum() > 1:
        scale = observed[kept].sum() / expected[kept].sum()
        assert stats.chisquare(observed[kept], scale * expected[kept]).pvalue > LEAST_P_VALUE


def test_index_of_a_wrong_beta_is_told_apart():
    _, indices = gumbel_max(np.random.default_rng(0), [0.0, 1.0, 2.0], 1.0, 2000)
    _, probabilities = gumbel_max_law([0.0, 1.0, 2.0], 1.5)
    assert stats.chisquare(np.bincount(indices), 2000 * probabilities).pvalue < LEAST_P_VALUE


@pytest.mark.parametrize("fit", [fit_gaussian, lambda x: fit_gumbel(x, 1), lambda x: fit_gumbel(x, -1)])
@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], r"samples is empty: its shape is \(0,\)"),
        ([1.0, NAN], r"samples must be finite, not nan as at \(1,\)"),
        ([1.0, np.inf], r"samples must be finite, not inf as at \(1,\)"),
        ([0.1, 0.1, 0.1], "samples must not all be equal, as they are to 0.1"),
        ([3.0], "samples must not all be equal, as they are to 3.0"),
    ],
)
def test_samples_without_a_fit_are_refused(fit, samples, message):
    with pytest.raises(ValueError, match=message):
        fit(samples)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Gumbel(NAN, 1.0), "location must be finite, not nan"),
        (lambda: Gumbel(0.0, 0.0), "scale must be positive and finite, not 0.0"),
        (lambda: Gumbel(0.0, -1.0), "scale must be positive and finite, not -1.0"),
        (lambda: Gumbel(0.0, 1.0, 0), "sign must be 1 or -1, not 0"),
        (lambda: Gaussian(np.inf, 1.0), "mean must be finite, not inf"),
        (lambda: Gaussian(0.0, NAN), "standard_deviation must be positive and finite, not nan"),
        (lambda: fit_gumbel([0.0, 1.0], 2), "sign must be 1 or -1, not 2"),
        (lambda: gumbel_max_law([0.0], 0.0), "beta must be positive and finite, not 0.0"),
        (lambda: gumbel_max_law([], 1.0), "x is empty"),
        (lambda: gumbel_max_law([[0.0]], 1.0), r"x must have one axis, not the shape \(1, 1\)"),
        (lambda: gumbel_max(np.random.default_rng(0), [0.0], -1.0, 1), "beta must be positive .*, not -1.0"),
        (lambda: gumbel_max(np.random.default_rng(0), [NAN], 1.0, 1), "x must be finite, not nan"),
        (lambda: gumbel_max(np.random.default_rng(0), [0.0], 1.0, 0), "count must be .*, not 0"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
