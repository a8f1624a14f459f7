"""The operator L^beta, between the mean and the maximum, in float64 (Garg et al. 2023, Eq. 1, Sec. 3.2.1)."""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.theory import arguments


def log_partition(
    x: ArrayLike, beta: float, probabilities: ArrayLike | None = None, axis: int = -1
) -> np.ndarray:
    """Returns L^beta(X) = beta * log E[exp(X / beta)] along an axis, without overflow at any beta.

    `losses.gumbel.log_mean_exp` is its float32 counterpart for programs on the device.

    Args:
        x: f64[..., N, ...], values of X in reward units; where a probability is 0 they do not matter.
        beta: positive, reward units.
        probabilities: of the values, of x's shape or broadcast to it, summing to 1 along the axis; None:
            all alike, so that the result is the estimate from samples.
        axis: the one over which the expectation runs.
    Returns:
        f64, x's shape without the axis, reward units.
    """
    arguments.positive("beta", beta)
    array = arguments.samples("x", x)
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"x must have the axis {axis}, and has the shape {array.shape}")
    values = np.moveaxis(array, axis, -1)
    if probabilities is None:
        weights = np.full(values.shape, 1.0 / values.shape[-1])
    else:
        rows = np.asarray(probabilities, np.float64)
        try:
            rows = np.broadcast_to(rows, np.shape(x))
        except ValueError:
            message = f"probabilities of shape {rows.shape} do not broadcast to x's {np.shape(x)}"
            raise ValueError(message) from None
        weights = arguments.probabilities("probabilities", np.moveaxis(rows, axis, -1))
    with np.errstate(over="ignore"):  # where beta is tiny: exp(-inf) is as good as exp of a huge quotient
        return weighted_log_partition(values, weights, beta)


def weighted_log_partition(values: Any, weights: Any, beta: Any, xp: ModuleType = np) -> Any:
    """`log_partition` along the last axis, unchecked; `xp` is the arrays' module, numpy or jax.numpy."""
    largest = xp.where(weights > 0, values, -xp.inf).max(-1, keepdims=True)
    # Where X has no weight it may exceed `largest`: there the exponential could overflow to inf * 0.
    excess = xp.minimum(values - largest, 0.0) / beta
    total = (weights * xp.exp(excess)).sum(-1)
    # Close to 1, as it is for a large beta, the sum has lost what `expm1` keeps.
    near_one = xp.log1p(xp.maximum((weights * xp.expm1(excess)).sum(-1), -0.5))
    logarithm = xp.where(total > 0.5, near_one, xp.log(total))
    return largest[..., 0] + beta * logarithm
