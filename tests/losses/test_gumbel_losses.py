"""The Gumbel losses against closed forms in float64, what minimises them, and that they stay finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from xql_jax.losses import gumbel
from xql_jax.losses.gumbel import log_mean_exp

CLIP = 7.0
LOSSES = {"plain": gumbel.gumbel_loss, "rescaled": gumbel.gumbel_rescaled_loss, "log": gumbel.gumbel_log_loss}
RULES = {"both": gumbel.clip_both, "above": gumbel.clip_above}
BETAS = [0.3, 1.0, 5.0]

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
every_rule = pytest.mark.parametrize("rule", RULES)
every_beta = pytest.mark.parametrize("beta", BETAS)


def grid(beta, largest=12.0):
    """Float32 (values, targets) whose z runs from -12 to `largest`, past the clip on both sides, shuffled."""
    z = np.random.default_rng(0).permutation(np.linspace(-12.0, largest, 60))
    values = np.random.default_rng(1).uniform(-3.0, 3.0, 60).astype(np.float32)
    return values, (values + beta * z).astype(np.float32)


def clipped(values, targets, beta, rule, clip=CLIP):
    """Float64 (z after the clip, dz/dvalues)."""
    z = (np.float64(targets) - np.float64(values)) / np.float64(np.float32(beta))
    outside = (z > clip) | ((z < -clip) & (rule == "both"))
    assert (z > clip).sum() > 5  # or the test would not see the clip
    assert (z < -clip).sum() > 5
    return np.clip(z, -clip if rule == "both" else -np.inf, clip), np.where(outside, 0.0, -1.0 / beta)


@functools.partial(jax.jit, static_argnames=("loss", "clip_rule"))
def value_and_gradient(loss, values, targets, **arguments):
    """The losses, and the gradient of their sum: where a loss is per example, each one's own derivative."""
    gradient = jax.grad(lambda v: loss(v, targets, **arguments).sum())
    return loss(values, targets, **arguments), gradient(jnp.asarray(values))


@every_beta
@every_rule
def test_plain_closed_form(beta, rule):
    values, targets = grid(beta)
    loss, gradient = value_and_gradient(
        gumbel.gumbel_loss, values, targets, beta=beta, clip=CLIP, clip_rule=RULES[rule]
    )
    z, slope = clipped(values, targets, beta, rule)
    np.testing.assert_allclose(loss, np.exp(z) - z - 1.0, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, (np.exp(z) - 1.0) * slope, rtol=2e-5, atol=1e-6)


@every_beta
@every_rule
def test_rescaled_closed_form(beta, rule):
    values, targets = grid(beta)
    loss, gradient = value_and_gradient(
        gumbel.gumbel_rescaled_loss, values, targets, beta=beta, clip=CLIP, clip_rule=RULES[rule]
    )
    z, slope = clipped(values, targets, beta, rule)  # their maximum is the clip
    np.testing.assert_allclose(loss, np.exp(-CLIP) * (np.exp(z) - z - 1.0), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, np.exp(-CLIP) * (np.exp(z) - 1.0) * slope, rtol=2e-5, atol=1e-6)


@every_beta
@every_rule
def test_log_closed_form(beta, rule):
    values, targets = grid(beta)
    loss, gradient = value_and_gradient(
        gumbel.gumbel_log_loss, values, targets, beta=beta, clip=CLIP, clip_rule=RULES[rule]
    )
    z, slope = clipped(values, targets, beta, rule)
    mean = (np.exp(z) - z - 1.0).mean()
    np.testing.assert_allclose(loss, np.log1p(mean), rtol=1e-5)
    np.testing.assert_allclose(
        gradient, (np.exp(z) - 1.0) * slope / len(z) / (1.0 + mean), rtol=2e-5, atol=1e-8
    )


def test_plain_is_precise_near_a_perfect_fit():
    z = np.array([1e-3, -1e-4, 1e-5], np.float32)
    exact = np.expm1(np.float64(z)) - np.float64(z)  # about z^2 / 2, as Lemma 3.2 says
    np.testing.assert_allclose(exact, np.float64(z) ** 2 / 2, rtol=1e-3)
    np.testing.assert_allclose(gumbel.gumbel_loss(jnp.zeros(3), z, beta=1.0), exact, rtol=1e-3)


@every_loss
@pytest.mark.parametrize(
    ("rule", "still"), [("both", [True, False, False, True]), ("above", [True, False, False, False])]
)
def test_clipped_entries_have_exactly_no_gradient(loss, rule, still):
    targets = jnp.array([9.0, 1.0, -1.0, -9.0])
    _, gradient = value_and_gradient(loss, jnp.zeros(4), targets, beta=1.0, clip=2.0, clip_rule=RULES[rule])
    np.testing.assert_array_equal(np.asarray(gradient) == 0, still)


def test_rescaled_without_clip_outlives_the_exponential():
    # exp(200) overflows float32; divided by exp(m), the largest entry pulls with 1 / beta, the others with 0.
    values, targets = jnp.zeros(3), jnp.array([400.0, 100.0, -2.0])
    loss, gradient = value_and_gradient(gumbel.gumbel_rescaled_loss, values, targets, beta=2.0)
    np.testing.assert_allclose(loss, [1.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(gradient, [-0.5, 0.0, 0.0], atol=1e-6)


@every_loss
@every_rule
@every_beta
def test_minimiser_is_log_mean_exp(loss, rule, beta):
    targets = np.random.default_rng(2).normal(scale=beta, size=40).astype(np.float32)
    exact = beta * np.log(np.exp(np.float64(targets) / beta).mean())  # Lemma 3.2

    def slope_at(v):
        values = jnp.full(40, v, jnp.float32)
        _, gradient = value_and_gradient(loss, values, targets, beta=beta, clip=CLIP, clip_rule=RULES[rule])
        return beta * float(gradient.mean())

    slopes = [slope_at(exact + shift * beta) for shift in (-0.01, 0.0, 0.01)]
    assert abs(slopes[1]) < 1e-5
    assert slopes[0] < -1e-4
    assert slopes[2] > 1e-4


@every_loss
def test_targets_and_scale_of_the_batch_are_constants(loss):
    values, targets = jnp.array([0.0, 0.5, -0.5]), jnp.array([1.0, 0.2, -0.7])
    gradient = jax.grad(lambda t: loss(values, t, beta=0.5, clip=7.0).sum())(targets)
    np.testing.assert_array_equal(gradient, 0.0)


@every_loss
@pytest.mark.parametrize("shapes", [((4,), (4, 1)), ((4, 1), (4, 1)), ((4,), ()), ((), ()), ((4,), (5,))])
def test_shapes_are_checked_while_tracing(loss, shapes):
    values, targets = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    with pytest.raises(AssertionError):
        jax.eval_shape(lambda v, t: loss(v, t, beta=1.0), values, targets)


MAX = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)  # the smallest normal float32
PLAIN_LOSSES = (gumbel.gumbel_loss, gumbel.gumbel_rescaled_loss, gumbel.gumbel_log_loss)
CLIP_RULES = (gumbel.clip_both, gumbel.clip_above)


@jax.jit
def everything(values, targets, beta, clip):
    """What must be finite, by name.

    Not listed: the sum and the mean of the plain loss, each of whose entries may come within a factor e of
    float32's maximum. The gradients of its sum and of its mean are listed.
    """
    finite = {}
    for loss in PLAIN_LOSSES:
        for rule in CLIP_RULES:

            def losses(v, loss=loss, rule=rule):
                return loss(v, targets, beta=beta, clip=clip, clip_rule=rule)

            name = f"{loss.__name__}/{rule.__name__}"
            finite[f"{name}/losses"] = losses(values)
            finite[f"{name}/gradient of sum"] = jax.grad(lambda v, f=losses: f(v).sum())(values)
            finite[f"{name}/gradient of mean"] = jax.grad(lambda v, f=losses: f(v).mean())(values)
            if loss is not gumbel.gumbel_loss:
                finite[f"{name}/sum"] = losses(values).sum()
                finite[f"{name}/mean"] = losses(values).mean()
    return finite


def floats(low, high):
    return st.floats(low, high, width=32)


anything = floats(-MAX, MAX) | st.sampled_from([0.0, 1e-45, -1e-45, TINY, -TINY, 1.0, 1e18, -1e18, MAX, -MAX])
betas = floats(TINY, MAX) | st.sampled_from([TINY, 1e-30, 0.1, 1.0, 5.0, MAX])
clips = floats(TINY, MAX) | floats(0.5, 120.0) | st.sampled_from([7.0, 86.0, 87.0, 88.0, 89.0, 1000.0, MAX])


@pytest.mark.parametrize("size", [1, 2, 8])
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(pairs=st.lists(st.tuples(anything, anything), min_size=8, max_size=8), beta=betas, clip=clips)
@example(pairs=[(-MAX, MAX)] * 8, beta=TINY, clip=1000.0)  # z overflows upwards
@example(pairs=[(MAX, -MAX)] * 8, beta=TINY, clip=1000.0)  # and downwards
@example(pairs=[(0.0, 1000.0)] * 8, beta=1.0, clip=1000.0)
@example(pairs=[(0.0, 0.85)] * 8, beta=0.01, clip=88.0)  # exp(85) is finite, exp(85) / beta is not
@example(pairs=[(0.0, -1.0)] * 8, beta=TINY, clip=7.0)
@example(pairs=[(0.0, 0.0)] * 8, beta=MAX, clip=7.0)
def test_values_and_gradients_are_finite(size, pairs, beta, clip):
    values, targets = np.array(pairs[:size], np.float32).T
    results = everything(jnp.array(values), jnp.array(targets), jnp.float32(beta), jnp.float32(clip))
    broken = [name for name, result in results.items() if not np.isfinite(result).all()]
    assert not broken


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    pairs=st.lists(st.tuples(anything, anything), min_size=4, max_size=4), beta=betas, clip=floats(0.5, 120.0)
)
@example(pairs=[(-MAX, MAX)] * 4, beta=TINY, clip=7.0)
def test_gradients_beyond_a_tangents_beginning_are_finite(pairs, beta, clip):
    """The tangent's own height is not, where z itself overflows."""
    values, targets = jnp.array(pairs, jnp.float32).T
    for gradient in saturated_gradients(values, targets, jnp.float32(beta), jnp.float32(clip)):
        assert np.isfinite(gradient).all()


@jax.jit
def saturated_gradients(values, targets, beta, clip):
    options = {"beta": beta, "clip": clip, "clip_rule": gumbel.saturate}
    return [jax.grad(lambda v, f=loss: f(v, targets, **options).mean())(values) for loss in PLAIN_LOSSES]


X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("beta", [0.2, 1.0, 4.0])
def test_by_hand(beta):
    # exp(x / beta) is 1 or 3, whose mean is 2.
    x = beta * jnp.log(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(log_mean_exp(x, beta=beta), beta * np.log(2.0), rtol=1e-6)


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (0, 1, 2)])
def test_axes(beta, axis):
    count = X.size if axis is None else np.prod(np.array(X.shape)[list(np.atleast_1d(axis))])
    expected = beta * (logsumexp(np.float64(X) / beta, axis=axis) - np.log(count))
    result = log_mean_exp(X, beta=beta, axis=axis)
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    x=st.lists(st.floats(-5, 5, width=32), min_size=6, max_size=6),
    beta=st.floats(0.125, 8.0, width=32),
    factor=st.floats(1.25, 8.0, width=32),
)
def test_falls_with_beta_from_the_maximum_to_the_mean(x, beta, factor):
    x = jnp.array(x, jnp.float32)
    small, large = log_mean_exp(x, beta=beta), log_mean_exp(x, beta=beta * factor)
    tolerance = 1e-4  # float32
    assert x.max() + tolerance >= small >= large - tolerance
    assert large >= x.mean() - tolerance
    if np.ptp(x) > 1.0:  # Lemma 3.1 is strict for an x that is not constant
        assert small > large
