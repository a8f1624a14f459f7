"""Gumbel regression: fits V(s) to beta * log E[exp(Q / beta)] (Garg et al. 2023, Sec. 3.2 and App. D.3)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.losses.regression import Vector, difference
from xql_jax.types import Array, Numeric

# (z, clip) -> z clipped, and the excess on which the loss goes on as a tangent; None: it is flat there.
ClipRule = Callable[[Array, Numeric], tuple[Array, Array | None]]

LOWEST_Z = -1e18  # the loss is flat below: float32 sums of |z| would overflow; real z stay above


def clip_both(z: Array, clip: Numeric) -> tuple[Array, None]:
    """The paper's clip (D.3): no gradient beyond +-clip; entries below cannot pull V down: a bias upwards."""
    return jnp.clip(z, -clip, clip), None


def clip_above(z: Array, clip: Numeric) -> tuple[Array, None]:
    """The clip of the authors' offline code: z is at most `clip`; for negative z the loss is not clipped."""
    return jnp.minimum(z, clip), None


def saturate(z: Array, clip: Numeric) -> tuple[Array, Array]:
    """Above `clip` the loss continues as its tangent, of slope exp(clip) - 1 (IDQL's weight is such)."""
    clipped = jnp.minimum(z, clip)
    return clipped, z - clipped


def gumbel_loss(
    values: Vector, targets: Vector, *, beta: Numeric, clip: Numeric = np.inf, clip_rule: ClipRule = clip_both
) -> Array:
    """Gumbel regression (LINEX) loss exp(z) - z - 1 of each example, z = (targets - values) / beta.

    This is `loss=plain`; by default XQL has `gumbel_rescaled_loss`, below, the same but for a common factor.

    Over targets x (constants) the minimiser is beta * log mean exp(x / beta) (Lemma 3.2). All is f32[B];
    values, targets and beta in reward units. The clip bounds z; a finite clip is lowered to the largest
    exponent with a finite gradient in float32 (about 87 for beta >= 1), but the mean may overflow.

    Source: Garg et al. 2023, Eq. 7 (Gumbel regression) and Eq. 11 (ExtremeV); clip: Appendix D.3.
    """
    z, beyond = _clipped(difference(values, targets) / beta, beta, clip, clip_rule)
    return _continued(jnp.expm1(z) - z, beyond, jnp.expm1(z))  # expm1 keeps precision near z = 0


def gumbel_rescaled_loss(
    values: Vector, targets: Vector, *, beta: Numeric, clip: Numeric = np.inf, clip_rule: ClipRule = clip_both
) -> Array:
    """`gumbel_loss` times exp(-m), with m = max(-1, largest z of the batch) held constant (App. D.3).

    m couples the examples of the batch. Even without a clip the loss stays finite where exp(z) overflows.
    """
    z, beyond = _clipped(difference(values, targets) / beta, beta, clip, clip_rule)
    m = jax.lax.stop_gradient(jnp.maximum(z.max(), -1.0))
    return _continued(jnp.exp(z - m) - (z + 1.0) * jnp.exp(-m), beyond, jnp.exp(z - m) - jnp.exp(-m))


def gumbel_log_loss(
    values: Vector, targets: Vector, *, beta: Numeric, clip: Numeric = np.inf, clip_rule: ClipRule = clip_both
) -> Array:
    """log(1 + mean of `gumbel_loss`) over the batch, f32[]: the same minimiser with bounded gradients.

    Source: the authors' offline code (`log_loss`, which cannot run there: its function rejects an argument).
    Differs: there z is capped at 7, and an entry beyond still pulls V up; here only if `clip_rule` saturates.
    """
    z, beyond = _clipped(difference(values, targets) / beta, beta, clip, clip_rule)
    m = jax.lax.stop_gradient(jnp.maximum(z.max(), 0.0))
    terms = jnp.exp(z - m) - z * jnp.exp(-m)
    return m + jnp.log(jnp.mean(_continued(terms, beyond, jnp.exp(z - m) - jnp.exp(-m))))


def gumbel_normalized_loss(
    values: Vector, targets: Vector, *, beta: Numeric, clip: Numeric = np.inf, clip_rule: ClipRule = clip_both
) -> Array:
    """`gumbel_loss` divided by the batch's mean of max(1, exp(z)), held constant.

    So the slope of no entry exceeds the batch's size / beta, and their mean's is at most 1 / beta.

    Source: ROER (Li et al. 2024, arXiv 2407.03995), their critic.py, `gumbel_rescale_loss`.
    Differs: there z is capped at `clip`, here the rule decides. The tangent of their `..._per` has a slope of
    (exp(clip) - 1) / beta^2, by a factor 1 / beta off; `saturate` continues without a jump.
    """
    z, beyond = _clipped(difference(values, targets) / beta, beta, clip, clip_rule)
    m = jax.lax.stop_gradient(jnp.maximum(z.max(), 0.0))  # divides all by exp(m): nothing overflows
    norm = jax.lax.stop_gradient(jnp.maximum(jnp.exp(-m), jnp.exp(z - m)).mean())
    terms = jnp.exp(z - m) - (z + 1.0) * jnp.exp(-m)
    return _continued(terms, beyond, jnp.exp(z - m) - jnp.exp(-m)) / norm


def _clipped(z: Vector, beta: Numeric, clip: Numeric, clip_rule: ClipRule) -> tuple[Array, Array | None]:
    """Applies the rule to z; a finite clip keeps exp(z) (/ beta) finite."""
    largest = jnp.log(np.finfo(np.float32).max) - 1.0 + jnp.minimum(jnp.log(beta), 0.0)
    finite_clip = jnp.where(jnp.isinf(clip), clip, jnp.minimum(clip, largest))
    return clip_rule(jnp.maximum(z, LOWEST_Z), finite_clip)


def _continued(loss: Array, beyond: Array | None, slope: Array) -> Array:
    """The loss, and beyond the clip its tangent of this slope."""
    return loss if beyond is None else loss + beyond * jax.lax.stop_gradient(slope)


# By the names that users type; the first is the default.
LOSSES = {
    "rescaled": gumbel_rescaled_loss,
    "plain": gumbel_loss,
    "log": gumbel_log_loss,
    "normalized": gumbel_normalized_loss,
}
CLIP_RULES = {"both": clip_both, "above": clip_above, "saturate": saturate}
