"""The losses of V: values, slopes and minimisers in float64, and the limits in which they are each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from xql_jax.learners.value_fits.dvl_chi2 import chi_square_loss
from xql_jax.learners.value_fits.dvl_tv import total_variation_loss
from xql_jax.learners.value_fits.eql import LARGEST, exponential_loss
from xql_jax.learners.value_fits.mxql import maclaurin_loss
from xql_jax.learners.value_fits.qql import LOWER, UPPER, W, pinball_loss
from xql_jax.learners.value_fits.sql import sparse_loss
from xql_jax.losses.gumbel import gumbel_log_loss, gumbel_loss, gumbel_rescaled_loss, saturate
from xql_jax.losses.regression import expectile_loss

VALUES = np.random.default_rng(1).uniform(-3.0, 3.0, 60).astype(np.float32)
TARGETS = (VALUES + np.random.default_rng(0).permutation(np.linspace(-9.0, 9.0, 60))).astype(np.float32)
Y = np.float64(TARGETS) - np.float64(VALUES)
V = np.float64(VALUES)
SAMPLE = np.random.default_rng(2).normal(size=401) * 2.0 + 0.5  # what V is fitted to, below

# Loss, its value and its slope by V in float64, both from the papers' formulae.
SPARSE = [
    (functools.partial(sparse_loss, alpha=a),
     np.maximum(1 + Y / (2 * a), 0) ** 2 + V / a,
     -np.maximum(1 + Y / (2 * a), 0) / a + 1 / a)
    for a in (0.3, 2.0)
]  # fmt: skip
CHI = [
    (functools.partial(chi_square_loss, tradeoff=t),
     t * np.where(Y > 0, Y + Y**2 / 4, 0.0) + (1 - t) * V,
     -t * np.where(Y > 0, 1 + Y / 2, 0.0) + (1 - t))
    for t in (0.6, 0.9)
]  # fmt: skip
TV = [
    (functools.partial(total_variation_loss, tradeoff=t),
     t * np.maximum(Y, 0) + (1 - t) * V,
     -t * (Y > 0) + (1 - t))
    for t in (0.6, 0.9)
]  # fmt: skip
PINBALL = [
    (functools.partial(pinball_loss, quantile=q),
     np.where(Y > 0, q * Y, (q - 1) * Y),
     np.where(Y > 0, -q, 1 - q))
    for q in (0.3, LOWER)
]  # fmt: skip
MACLAURIN = [
    (functools.partial(maclaurin_loss, beta=b, order=n),
     sum((Y / b) ** j / float(np.prod(np.arange(1, j + 1))) for j in range(2, n + 1)),
     -sum((Y / b) ** j / float(np.prod(np.arange(1, j + 1))) for j in range(1, n)) / b)
    for b, n in ((1.0, 2), (3.0, 4), (2.0, 8))
]  # fmt: skip
FORMULAE = [*SPARSE, *CHI, *TV, *PINBALL, *MACLAURIN]


@pytest.mark.parametrize(("loss", "value", "slope"), FORMULAE)
def test_values_and_slopes(loss, value, slope):
    np.testing.assert_allclose(loss(VALUES, TARGETS), value, rtol=1e-5, atol=1e-5)
    gradient = jax.grad(lambda v: loss(v, TARGETS).sum())(jnp.asarray(VALUES))
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-5)
    of_targets = jax.grad(lambda t: loss(jnp.asarray(VALUES), t).sum())(jnp.asarray(TARGETS))
    np.testing.assert_array_equal(of_targets, 0.0)  # they are constants


def test_exponential_up_to_its_tangent():
    alpha = 1.5
    z = Y / alpha
    assert (z > LARGEST).sum() > 3
    held, m = np.minimum(z, LARGEST), LARGEST  # the batch's largest, held
    expected = np.exp(held - m) * (1 + z - held) + np.exp(-m) * V / alpha
    np.testing.assert_allclose(exponential_loss(VALUES, TARGETS, alpha=alpha), expected, rtol=1e-4)
    gradient = jax.grad(lambda v: exponential_loss(v, TARGETS, alpha=alpha).sum())(jnp.asarray(VALUES))
    slopes = np.exp(-m) * (1 - np.exp(held)) / alpha
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-7)
    assert (np.asarray(gradient)[z > LARGEST] < 0).all()  # V goes up, where the authors' code pushes it down


def minimiser(loss, sample=SAMPLE):
    """The minimiser of the mean loss of one constant V, by bisection of its derivative."""
    targets = jnp.asarray(sample, jnp.float32)

    @jax.jit
    @jax.grad
    def slope(v):
        return loss(jnp.full(targets.shape, v), targets).mean()

    low, high = float(sample.min()) - 1.0, float(sample.max()) + 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return middle


def root(function):
    return optimize.brentq(function, SAMPLE.min() - 5, SAMPLE.max() + 5, xtol=1e-12)


def soft_maximum(beta):
    return beta * np.log(np.exp(SAMPLE / beta).mean())


@pytest.mark.parametrize("alpha", [0.5, 1.0, 5.0])
def test_minimisers_of_sparse_and_exponential(alpha):
    sparse = root(lambda v: np.maximum(1 + (SAMPLE - v) / (2 * alpha), 0).mean() - 1)
    assert minimiser(functools.partial(sparse_loss, alpha=alpha)) == pytest.approx(sparse, abs=1e-4)
    exponential = minimiser(functools.partial(exponential_loss, alpha=alpha))
    if alpha > 0.5:  # at 0.5 some lie beyond the tangent's beginning
        assert exponential == pytest.approx(soft_maximum(alpha), abs=1e-3)
        assert exponential == pytest.approx(minimiser(functools.partial(gumbel_loss, beta=alpha)), abs=1e-3)
    assert SAMPLE.mean() - 1e-9 <= sparse < SAMPLE.max()  # the mean, where no Q is below V - 2 alpha


@pytest.mark.parametrize("tradeoff", [0.55, 0.7, 0.9])
def test_minimisers_of_the_dual_losses(tradeoff):
    share = (1 - tradeoff) / tradeoff
    chi = root(lambda v: np.where(v < SAMPLE, 1 + (SAMPLE - v) / 2, 0.0).mean() - share)
    assert minimiser(functools.partial(chi_square_loss, tradeoff=tradeoff)) == pytest.approx(chi, abs=1e-4)
    quantile = np.quantile(SAMPLE, (2 * tradeoff - 1) / tradeoff, method="inverted_cdf")
    tv = minimiser(functools.partial(total_variation_loss, tradeoff=tradeoff))
    assert tv == pytest.approx(quantile, abs=1e-4)
    pinball = functools.partial(pinball_loss, quantile=(2 * tradeoff - 1) / tradeoff)
    assert minimiser(pinball) == pytest.approx(tv, abs=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        functools.partial(gumbel_loss, beta=0.7),
        functools.partial(expectile_loss, expectile=0.9),
        functools.partial(sparse_loss, alpha=0.5),
        functools.partial(exponential_loss, alpha=0.7),
        functools.partial(maclaurin_loss, beta=0.7, order=4),
        functools.partial(chi_square_loss, tradeoff=0.8),
        functools.partial(total_variation_loss, tradeoff=0.8),
        functools.partial(pinball_loss, quantile=LOWER),
    ],
)
def test_v_is_the_q_of_a_single_action_and_never_above_the_maximum(loss):
    assert minimiser(loss, np.full(3, 1.7)) == pytest.approx(1.7, abs=2e-3)
    for sample in (SAMPLE, np.array([-1.0, 0.3, 0.4]), np.array([0.0, 20.0])):
        assert minimiser(loss, sample) <= sample.max() + 1e-3


def test_maclaurin_is_the_mean_at_order_2_and_xql_in_the_limit():
    beta = 1.2
    found = [minimiser(functools.partial(maclaurin_loss, beta=beta, order=n)) for n in (2, 4, 8, 16)]
    assert found[0] == pytest.approx(SAMPLE.mean(), abs=1e-4)
    assert found == sorted(found)
    assert found[-1] == pytest.approx(soft_maximum(beta), abs=1e-3)
    np.testing.assert_allclose(
        maclaurin_loss(VALUES / 3, TARGETS / 3, beta=beta, order=20),
        gumbel_loss(VALUES / 3, TARGETS / 3, beta=beta), rtol=1e-4,
    )  # fmt: skip
    slope = jax.grad(lambda v: maclaurin_loss(jnp.array([v]), jnp.array([0.0]), beta=beta, order=4)[0])
    assert all(float(slope(v)) > 0 for v in np.linspace(0.1, 50.0, 40))  # it is convex on both sides


@pytest.mark.parametrize(("location", "scale"), [(0.0, 1.0), (-3.0, 0.2), (5.0, 4.0)])
def test_quantiles_are_v_and_beta_where_q_is_gumbel(location, scale):
    """Q = V - Gumbel(0, beta): its quantiles give V, and L^beta(Q) = V for that beta."""
    law = stats.gumbel_l(loc=location, scale=scale)
    lower, upper = law.ppf([LOWER, UPPER])
    assert lower == pytest.approx(location, abs=1e-9)
    assert (upper - lower) / W == pytest.approx(scale)
    sample = law.rvs(200_000, random_state=0)
    assert scale * np.log(np.exp(sample / scale).mean()) == pytest.approx(location, abs=0.02 * scale)
    fitted = [minimiser(functools.partial(pinball_loss, quantile=q), sample) for q in (LOWER, UPPER)]
    np.testing.assert_allclose(fitted, [lower, upper], atol=0.02 * scale)


def of_rescaled(value, slope, clip):
    """Divided by exp of the largest exponent, which is the clip."""
    return value / np.exp(clip), slope / np.exp(clip)


def of_log(value, slope, clip):
    """The logarithm of 1 + the mean."""
    return np.log1p(value.mean()), slope / (1 + value.mean())


@pytest.mark.parametrize(
    ("loss", "form"),
    [
        (gumbel_loss, lambda value, slope, clip: (value, slope)),
        (gumbel_rescaled_loss, of_rescaled),
        (gumbel_log_loss, of_log),
    ],
)
def test_a_saturated_gumbel_loss_goes_on_as_its_tangent(loss, form):
    beta, clip = 0.7, 2.0
    z = Y / np.float64(np.float32(beta))
    assert (z > clip).sum() > 10
    held = np.minimum(z, clip)
    plain = np.exp(held) * (1 + z - held) - z - 1, -(np.exp(held) - 1) / beta
    value, slope = form(*plain, clip)
    loss = functools.partial(loss, beta=beta, clip=clip, clip_rule=saturate)
    np.testing.assert_allclose(loss(VALUES, TARGETS), value, rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda v: loss(v, TARGETS).mean())(jnp.asarray(VALUES))
    np.testing.assert_allclose(len(VALUES) * gradient, slope, rtol=1e-4, atol=1e-5)
