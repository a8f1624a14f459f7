"""The Gumbel losses stay precise and finite; the operator L^beta, and Lemma 3.1."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xql_jax.losses import gumbel


def test_plain_is_precise_near_a_perfect_fit():
    z = np.array([1e-3, -1e-4, 1e-5], np.float32)
    exact = np.expm1(np.float64(z)) - np.float64(z)  # about z^2 / 2, as Lemma 3.2 says
    np.testing.assert_allclose(exact, np.float64(z) ** 2 / 2, rtol=1e-3)
    np.testing.assert_allclose(gumbel.gumbel_loss(jnp.zeros(3), z, beta=1.0), exact, rtol=1e-3)


def test_rescaled_without_clip_outlives_the_exponential():
    # exp(200) overflows float32; divided by exp(m), the largest entry pulls with 1 / beta, the others with 0.
    values, targets = jnp.zeros(3), jnp.array([400.0, 100.0, -2.0])
    loss = gumbel.gumbel_rescaled_loss(values, targets, beta=2.0)
    gradient = jax.grad(lambda v: gumbel.gumbel_rescaled_loss(v, targets, beta=2.0).sum())(values)
    np.testing.assert_allclose(loss, [1.0, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(gradient, [-0.5, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize(("z", "m"), [((2.0, -3.0), 2.0), ((-0.5, -3.0), -0.5), ((-2.0, -3.0), -1.0)])
def test_rescaled_is_plain_by_the_largest_exponent_which_is_at_least_minus_one(z, m):
    found = gumbel.gumbel_rescaled_loss(jnp.zeros(2), jnp.array(z), beta=1.0)
    np.testing.assert_allclose(found, (np.exp(z) - np.array(z) - 1) * np.exp(-m), rtol=1e-5)


MAX = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)  # the smallest normal float32
PLAIN_LOSSES = tuple(gumbel.LOSSES.values())
CLIP_RULES = (gumbel.clip_both, gumbel.clip_above, gumbel.saturate)


@jax.jit
def everything(values, targets, beta, clip):
    """What must be finite, by name.

    Not listed: the mean of the plain loss, each of whose entries may come within a factor e of float32's
    maximum; and losses beyond a tangent's beginning, because z itself may overflow. Their gradients are.
    """
    finite = {}
    for loss, rule in itertools.product(PLAIN_LOSSES, CLIP_RULES):
        bound = jnp.maximum(clip, 0.5) if rule is gumbel.saturate else clip  # else a slope may round to 0

        def losses(v, loss=loss, rule=rule, bound=bound):
            return loss(v, targets, beta=beta, clip=bound, clip_rule=rule)

        name = f"{loss.__name__}/{rule.__name__}"
        finite[f"{name}/gradient"] = jax.grad(lambda v, f=losses: f(v).mean())(values)
        if rule is not gumbel.saturate:
            finite[f"{name}/losses"] = losses(values)
            finite[f"{name}/gradient of sum"] = jax.grad(lambda v, f=losses: f(v).sum())(values)
            if loss is not gumbel.gumbel_loss:
                finite[f"{name}/mean"] = losses(values).mean()
    return finite


def floats(low, high):
    return st.floats(low, high, width=32)


anything = floats(-MAX, MAX) | st.sampled_from([0.0, 1e-45, -1e-45, TINY, -TINY, 1.0, 1e18, -1e18, MAX, -MAX])
betas = floats(TINY, MAX) | st.sampled_from([TINY, 1e-30, 0.1, 1.0, 5.0, MAX])
clips = floats(TINY, MAX) | floats(0.5, 120.0) | st.sampled_from([7.0, 86.0, 87.0, 88.0, 89.0, 1000.0, MAX])


@pytest.mark.parametrize("size", [1, 8])
@settings(max_examples=300)
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
