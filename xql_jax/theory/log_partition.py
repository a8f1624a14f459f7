"""The operator L^beta, between the mean and the maximum, in float64 (Garg et al. 2023, Eq. 1, Sec. 3.2.1)."""

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.theory import arguments


def log_partition(x: ArrayLike, beta: float, probabilities: ArrayLike | None = None) -> np.ndarray:
    """Returns L^beta(X) = beta * log E[exp(X / beta)] along the last axis, without overflow at any beta.

    Values f64[..., N] with probability 0 are ignored. Without probabilities, which broadcast, all are equally
    likely, so that the result is the estimate from samples.
    """
    arguments.positive("beta", beta)
    values = arguments.samples("x", x)
    if probabilities is None:
        weights = np.full(values.shape, 1.0 / values.shape[-1])
    else:
        weights = arguments.probabilities("probabilities", np.broadcast_to(probabilities, values.shape))
    with np.errstate(over="ignore"):  # with a tiny beta the quotient may be -inf: its exp is 0, as wanted
        return weighted_log_partition(values, weights, beta)


def weighted_log_partition(values: np.ndarray, weights: np.ndarray, beta: float) -> np.ndarray:
    """`log_partition` along the last axis, unchecked."""
    largest = np.where(weights > 0, values, -np.inf).max(-1, keepdims=True)
    # A value without weight may exceed `largest`. Its exponential could overflow and give inf * 0.
    excess = np.minimum(values - largest, 0.0) / beta
    total = (weights * np.exp(excess)).sum(-1)
    # For a large beta the sum is close to 1 and loses digits that `expm1` keeps.
    near_one = np.log1p(np.maximum((weights * np.expm1(excess)).sum(-1), -0.5))
    logarithm = np.where(total > 0.5, near_one, np.log(total))
    return largest[..., 0] + beta * logarithm
