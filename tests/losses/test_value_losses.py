"""All losses of V and Q: values and slopes by the papers' formulae in float64, and minimisers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from xql_jax.learners.f_dvl import ChiSquare, TotalVariation
from xql_jax.learners.ivr import LARGEST_EXPONENT, Exponential, Sparse
from xql_jax.learners.mxql import Maclaurin
from xql_jax.learners.qql import LOWER, UPPER, W
from xql_jax.losses.gumbel import (
    clip_above,
    clip_both,
    gumbel_log_loss,
    gumbel_loss,
    gumbel_normalized_loss,
    gumbel_rescaled_loss,
    saturate,
)
from xql_jax.losses.regression import (
    advantage_weight,
    expectile_loss,
    huber_loss,
    mse_loss,
    pinball_loss,
    td_target,
)

FORMS = gumbel_loss, gumbel_rescaled_loss, gumbel_log_loss, gumbel_normalized_loss
VALUES = np.random.default_rng(1).uniform(-3.0, 3.0, 60).astype(np.float32)
TARGETS = (VALUES + np.random.default_rng(0).permutation(np.linspace(-24.0, 24.0, 60))).astype(np.float32)
Y, V = np.float64(TARGETS) - np.float64(VALUES), np.float64(VALUES)
SAMPLE = np.random.default_rng(2).normal(size=401) * 2.0 + 0.5  # what V is fitted to, below


def case(function, value, slope, **options):
    options = {key: float(np.float32(option)) if isinstance(option, float) else option
               for key, option in options.items()}  # fmt: skip
    loss = (
        function(**options).loss_of if isinstance(function, type) else functools.partial(function, **options)
    )
    return pytest.param(loss, value, slope, id=function.__name__)


def maclaurin(b, n):
    terms = [(Y / b) ** j / math.factorial(j) for j in range(n + 1)]
    return case(Maclaurin, sum(terms[2:]), -sum(terms[1:n]) / b, beta=b, order=n)


def exponential(a):
    z = Y / a
    held, m = np.minimum(z, LARGEST_EXPONENT), LARGEST_EXPONENT  # the batch's largest, held
    value = np.exp(held - m) * (1 + z - held) + np.exp(-m) * V / a
    return case(Exponential, value, np.exp(-m) * (1 - np.exp(held)) / a, alpha=a)


def gumbel(function, rule, beta, clip=7.0):
    """The four forms; their largest exponent is the clip."""
    z = Y / np.float64(np.float32(beta))
    held = np.clip(z, -clip if rule is clip_both else -np.inf, clip)
    value, slope = np.exp(held) - held - 1, -(np.exp(held) - 1) / beta
    if rule is saturate:  # it goes on as its tangent
        value = value + (z - held) * (np.exp(held) - 1)
    else:
        slope = np.where(z == held, slope, 0.0)
    if function is gumbel_rescaled_loss:
        value, slope = value * np.exp(-clip), slope * np.exp(-clip)
    if function is gumbel_normalized_loss:  # ROER's critic.py, where the rule is clip_above
        norm = np.maximum(1, np.exp(held)).mean()
        value, slope = value / norm, slope / norm
    if function is gumbel_log_loss:  # 1 + the mean
        value, slope = np.log1p(value.mean()), slope / len(z) / (1 + value.mean())
    return case(function, value, slope, beta=beta, clip=clip, clip_rule=rule)


# Loss, its value and its slope by V in float64, both from the papers' formulae.
FORMULAE = [
    case(mse_loss, Y**2, -2 * Y),
    case(huber_loss, np.where(abs(Y) <= 20, Y**2 / 2, 20 * abs(Y) - 200), -np.clip(Y, -20, 20)),
    *(case(expectile_loss, abs(t - (Y < 0)) * Y**2, -2 * abs(t - (Y < 0)) * Y, expectile=t)
      for t in (0.1, 0.9)),
    *(case(pinball_loss, np.where(Y > 0, q * Y, (q - 1) * Y), np.where(Y > 0, -q, 1 - q), quantile=q)
      for q in (0.3, LOWER)),
    *(case(Sparse, np.maximum(1 + Y / (2 * a), 0) ** 2 + V / a,
           -np.maximum(1 + Y / (2 * a), 0) / a + 1 / a, alpha=a) for a in (0.3, 2.0)),
    *(case(ChiSquare, t * np.where(Y > 0, Y + Y**2 / 4, 0.0) + (1 - t) * V,
           -t * np.where(Y > 0, 1 + Y / 2, 0.0) + (1 - t), tradeoff=t) for t in (0.6, 0.9)),
    *(case(TotalVariation, t * np.maximum(Y, 0) + (1 - t) * V, -t * (Y > 0) + (1 - t), tradeoff=t)
      for t in (0.6, 0.9)),
    *(maclaurin(b, n) for b, n in ((1.0, 2), (3.0, 4), (2.0, 8))),
    exponential(1.5),
    *(gumbel(form, rule, beta) for form in FORMS
      for rule, beta in ((clip_both, 0.3), (clip_both, 2.0), (clip_above, 1.0), (saturate, 1.0))),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "value", "slope"), FORMULAE)
def test_values_slopes_constants_and_shapes(loss, value, slope):
    """Targets are constants; (B,) against (B, 1) would broadcast, so that shapes are checked."""
    np.testing.assert_allclose(loss(VALUES, TARGETS), value, rtol=3e-5, atol=1e-5)
    values, targets = jnp.asarray(VALUES), jnp.asarray(TARGETS)
    gradient = jax.grad(lambda v: loss(v, targets).sum())(values)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-6 * abs(slope).max())
    np.testing.assert_array_equal(np.asarray(gradient)[slope == 0], 0.0)
    np.testing.assert_array_equal(jax.grad(lambda t: loss(values, t).sum())(targets), 0.0)
    for shapes in (((4,), (4, 1)), ((4, 1), (4, 1)), ((4,), ()), ((4,), (5,))):
        with pytest.raises(AssertionError):
            jax.eval_shape(loss, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))


@pytest.mark.parametrize("rule", [clip_both, clip_above, saturate])
@pytest.mark.parametrize("loss", FORMS)
@pytest.mark.parametrize("beta", [0.6, 4.0])
def test_the_minimiser_is_the_soft_maximum(loss, rule, beta):
    """Lemma 3.2, by bisection of the slope of the mean loss of one constant V."""
    targets = jnp.asarray(SAMPLE, jnp.float32)

    @jax.jit
    @jax.grad
    def slope(v):
        return loss(jnp.full(targets.shape, v), targets, beta=beta, clip=20.0, clip_rule=rule).mean()

    low, high = SAMPLE.min(), SAMPLE.max()
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    assert middle == pytest.approx(beta * np.log(np.exp(SAMPLE / beta).mean()), abs=1e-3)


def test_quantiles_are_v_and_beta_where_q_is_gumbel():
    """If Q = V - Gumbel(0, beta), the lower one is V, and their distance is W * beta."""
    lower, upper = stats.gumbel_l(loc=-3.0, scale=0.2).ppf([LOWER, UPPER])
    assert (lower, (upper - lower) / W) == pytest.approx((-3.0, 0.2))


def test_the_target_by_hand_and_its_constants():
    rewards, masks, values = jnp.array([[1.0, 1.0, -2.0], [1.0, 0.0, 1.0], [10.0, 10.0, 4.0]])
    target = functools.partial(td_target, masks=masks, discount=0.9)
    np.testing.assert_allclose(target(rewards, next_values=values), [10.0, 1.0, 1.6], rtol=1e-6)
    gradients = jax.grad(lambda r, v: target(r, next_values=v).sum(), argnums=(0, 1))(rewards, values)
    np.testing.assert_array_equal(gradients, 0.0)


@pytest.mark.parametrize("options", [{}, {"max_weight": 0.5}])
def test_the_weight_is_capped_and_a_constant(options):
    weight = functools.partial(advantage_weight, awr_temperature=3.0, **options)
    advantages = jnp.array([-2.0, -0.1, 0.0, 0.5, 1.0, 3.0])
    expected = np.minimum(np.exp(3.0 * np.float64(advantages)), options.get("max_weight", 100.0))
    np.testing.assert_allclose(weight(advantages), expected, rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(lambda a: weight(a).sum())(advantages), 0.0)
