"""With a finite clip the Gumbel losses and their gradients are finite in float32, for every finite input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xql_jax.losses import gumbel

MAX = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)  # the smallest normal float32
LOSSES = (gumbel.gumbel_loss, gumbel.gumbel_rescaled_loss, gumbel.gumbel_log_loss)
RULES = (gumbel.clip_both, gumbel.clip_above)


@jax.jit
def everything(values, targets, beta, clip):
    """What must be finite, by name.

    Not listed: the sum and the mean of the plain loss, each of whose entries may come within a factor e of
    float32's maximum. The gradients of its sum and of its mean are listed.
    """
    finite = {}
    for loss in LOSSES:
        for rule in RULES:

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
    return [jax.grad(lambda v, f=loss: f(v, targets, **options).mean())(values) for loss in LOSSES]
