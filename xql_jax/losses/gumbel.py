"""Gumbel regression: fits V(s) to beta * log E[exp(Q / beta)] (Garg et al. 2023, Sec. 3.2 and App. D.3)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from xql_jax.losses.critic import check_pairs
from xql_jax.types import Array, Numeric

# From z and the clip: the clipped z, and how far beyond it the loss goes on as its tangent; None: it is flat.
ClipRule = Callable[[Array, Numeric], tuple[Array, Array | None]]

# Below it the loss is flat: float32 sums of |z| over a batch would overflow. No quantity in use comes near.
LOWEST_Z = -1e18


def clip_both(z: Array, clip: Numeric) -> tuple[Array, None]:
    """The paper's clip (D.3): z within [-clip, clip]. A clipped entry has zero gradient.

    It also drops the pull of entries below -clip, so where the optimum has z < -clip it biases V upwards;
    `clip_above` does not.
    """
    return jnp.clip(z, -clip, clip), None


def clip_above(z: Array, clip: Numeric) -> tuple[Array, None]:
    """The clip of the authors' offline code: z at most `clip`; from below the loss stays linear."""
    return jnp.minimum(z, clip), None


def saturate(z: Array, clip: Numeric) -> tuple[Array, Array]:
    """No clip of z but of the force: above `clip` the loss goes on as its tangent, with slope exp(clip) - 1.

    An entry far above V thus pulls V up however far it is. Source: the exponential weight of IDQL
    (Hansen-Estruch et al. 2023), there capped at 6.
    """
    clipped = jnp.minimum(z, clip)
    return clipped, z - clipped


def log_mean_exp(x: Array, *, beta: Numeric, axis: int | tuple[int, ...] | None = None) -> Array:
    """The operator L^beta(x) = beta * log mean exp(x / beta) along `axis` (all axes when None).

    Between the mean (beta -> inf) and the maximum (beta -> 0), Lemma 3.1; the minimiser of `gumbel_loss` over
    constants, Lemma 3.2. Source: Garg et al. 2023, Eq. 1, with the expectation over the entries of x.
    """
    log_sum = jax.nn.logsumexp(x / beta, axis=axis)
    return beta * (log_sum - jnp.log(x.size // log_sum.size))


def gumbel_loss(
    values: Array, targets: Array, *, beta: Numeric, clip: Numeric = jnp.inf, clip_rule: ClipRule = clip_both
) -> Array:
    """Gumbel regression (LINEX) loss of each example.

    With z = (targets - values) / beta, returns exp(z) - z - 1. Over targets x the minimiser is
    beta * log E[exp(x / beta)]: the mean as beta grows, the maximum as beta goes to 0.

    Source: Garg et al. 2023, Eq. 7 (Gumbel regression) and Eq. 11 (ExtremeV); clip: Appendix D.3.
    Differs: the authors' offline code caps z from above only, see `clip_above`. Clipped entries get zero
    gradient, so a batch wholly above the clip does not move V. A finite clip is lowered, where needed and on
    both sides, to the largest exponent whose gradient is finite in float32 (about 87 for beta >= 1). Near
    that clip the mean of plain losses can overflow even though each loss and gradient is finite.
    Args:
        values, targets: f32[B], predictions and samples (constants), in the reward units that beta has too.
        clip: bound on z, dimensionless; inf turns it off.
    Returns:
        f32[B], dimensionless, non-negative, 0 where values equal targets. The caller reduces.
    """
    z, beyond = _clipped_error(values, targets, beta, clip, clip_rule)
    loss = jnp.expm1(z) - z  # expm1 keeps precision near z = 0
    return loss if beyond is None else loss + beyond * jax.lax.stop_gradient(jnp.expm1(z))


def gumbel_rescaled_loss(
    values: Array, targets: Array, *, beta: Numeric, clip: Numeric = jnp.inf, clip_rule: ClipRule = clip_both
) -> Array:
    """`gumbel_loss` times exp(-m), with m = max(-1, largest z of the batch) held constant.

    The gradient is exp(-m) times the plain one and nothing else changes; but m couples the examples of the
    batch. Without a clip it stays finite where exp(z) overflows.

    Source: Garg et al. 2023, Appendix D.3 (max-normalisation). Arguments and result as `gumbel_loss`.
    """
    z, beyond = _clipped_error(values, targets, beta, clip, clip_rule)
    m = jax.lax.stop_gradient(jnp.maximum(z.max(), -1.0))
    loss = jnp.exp(z - m) - (z + 1.0) * jnp.exp(-m)
    return loss if beyond is None else loss + beyond * jax.lax.stop_gradient(jnp.exp(z - m) - jnp.exp(-m))


def gumbel_log_loss(
    values: Array, targets: Array, *, beta: Numeric, clip: Numeric = jnp.inf, clip_rule: ClipRule = clip_both
) -> Array:
    """log(1 + mean of `gumbel_loss`) over the batch: the same minimiser, with a gradient that never explodes.

    Not per example but f32[]: the logarithm is of the batch's mean. Its gradient is the plain mean's divided
    by 1 + the mean loss. Arguments as `gumbel_loss`.

    Source: the authors' offline code (`log_loss`; it cannot run there, its function rejects an argument).
    """
    z, beyond = _clipped_error(values, targets, beta, clip, clip_rule)
    m = jax.lax.stop_gradient(jnp.maximum(z.max(), 0.0))
    terms = jnp.exp(z - m) - z * jnp.exp(-m)
    if beyond is not None:
        terms += beyond * jax.lax.stop_gradient(jnp.exp(z - m) - jnp.exp(-m))
    return m + jnp.log(jnp.mean(terms))


def _clipped_error(
    values: Array, targets: Array, beta: Numeric, clip: Numeric, clip_rule: ClipRule
) -> tuple[Array, Array | None]:
    """z = (targets - values) / beta by the rule; a finite clip keeps exp(z) and exp(z) / beta finite."""
    check_pairs(values, targets)
    largest = jnp.log(jnp.finfo(jnp.float32).max) - 1.0 + jnp.minimum(jnp.log(beta), 0.0)
    finite_clip = jnp.where(jnp.isinf(clip), clip, jnp.minimum(clip, largest))
    z = (jax.lax.stop_gradient(targets) - values) / beta
    return clip_rule(jnp.maximum(z, LOWEST_Z), finite_clip)
