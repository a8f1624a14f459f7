"""The Gumbel losses against closed forms in float64: values, gradients, clips, and what minimises them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.losses import gumbel

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


@every_rule
def test_rescaled_and_log_gradients_are_multiples_of_the_plain_one(rule):
    values, targets = grid(1.0, largest=5.0)
    arguments = {"beta": 1.0, "clip": CLIP, "clip_rule": RULES[rule]}
    losses, plain = value_and_gradient(gumbel.gumbel_loss, values, targets, **arguments)
    _, rescaled = value_and_gradient(gumbel.gumbel_rescaled_loss, values, targets, **arguments)
    _, log = value_and_gradient(gumbel.gumbel_log_loss, values, targets, **arguments)
    m = (targets - values).max()  # 5: below the clip
    np.testing.assert_allclose(rescaled, np.exp(-m) * plain, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(log, plain / 60 / (1.0 + losses.mean()), rtol=1e-5, atol=1e-7)


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
