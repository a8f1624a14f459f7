"""The operator L^beta, between the mean and the maximum, in float64 (Garg et al. 2023, Eq. 1, Sec. 3.2.1)."""

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from xql_jax.theory import arguments


def log_partition(x: ArrayLike, beta: float, probabilities: ArrayLike | None = None) -> np.ndarray:
    """Returns L^beta(X) = beta * log E[exp(X / beta)] along the last axis, without overflow at any beta.

    `losses.gumbel.log_mean_exp` is its float32 counterpart for programs on the device.

    Args:
        x: f64[..., N], values of X in reward units; those with probability 0 are ignored.
        beta: positive, reward units.
        probabilities: of the values, f64[..., N] or broadcast to it, summing to 1; None: uniform, so that the
            result is the estimate from samples.
    Returns:
        f64[...], reward units.
    """
    arguments.positive("beta", beta)
    values = arguments.samples("x", x)
    if probabilities is None:
        weights = np.full(values.shape, 1.0 / values.shape[-1])
    else:
        weights = arguments.probabilities("probabilities", np.broadcast_to(probabilities, values.shape))
    with np.errstate(over="ignore"):  # with a tiny beta the quotient may be -inf: its exp is 0, as wanted
        return weighted_log_partition(values, weights, beta)


def weighted_log_partition(values: Any, weights: Any, beta: Any, xp: ModuleType = np) -> Any:
    """`log_partition` along the last axis, unchecked; `xp` is the arrays' module, numpy or jax.numpy."""
    largest = xp.where(weights > 0, values, -xp.inf).max(-1, keepdims=True)
    # A value without weight may exceed `largest`. Its exponential could overflow and give inf * 0.
    excess = xp.minimum(values - largest, 0.0) / beta
    total = (weights * xp.exp(excess)).sum(-1)
    # For a large beta the sum is close to 1 and loses digits that `expm1` keeps.
    near_one = xp.log1p(xp.maximum((weights * xp.expm1(excess)).sum(-1), -0.5))
    logarithm = xp.where(total > 0.5, near_one, xp.log(total))
    return largest[..., 0] + beta * logarithm


def entropic_value_at_risk(x: ArrayLike, level: float, probabilities: ArrayLike | None = None) -> float:
    """Returns EVaR(X), the entropic value at risk: the minimum over beta of L^beta(X) + beta log(1 / level).

    X exceeds it with probability at most `level`, by the tightest of Chernoff's bounds. It is also the
    largest mean of X under a distribution with a KL divergence of at most log(1 / level) from X's own.

    Source: Ahmadi-Javid 2012, Definition 3.1, Theorem 3.3; Garg et al. 2023 name it in Section 3.2.1.
    Args:
        x: f64[N], values of X in reward units.
        level: within (0, 1]. 1 gives the mean. The probability of the maximum, or any smaller level, gives
            the maximum.
        probabilities: f64[N], of the values, summing to 1; None: uniform.
    """
    if not 0.0 < level <= 1.0:
        raise ValueError(f"level must be within (0, 1], not {level}")
    values = arguments.samples("x", x)
    uniform = np.full(len(values), 1.0 / len(values))
    weights = uniform if probabilities is None else arguments.probabilities("probabilities", probabilities)
    values, weights = values[weights > 0], weights[weights > 0]
    largest, budget = values.max(), -np.log(float(level))
    spread = largest - values.min()
    if spread == 0.0 or budget >= -np.log(weights[values == largest].sum()):
        return float(largest)
    if budget == 0.0:
        return float(weights @ values)
    z = (values - largest) / spread

    def tilted(inverse: float) -> tuple[float, float]:
        """The mean of z under weights times exp(inverse * z), and the KL divergence of these from X's own."""
        grown = weights * np.exp(inverse * z)
        mean = float(grown @ z / grown.sum())
        return mean, inverse * mean - float(np.log(grown.sum()))

    upper = 1.0
    while tilted(upper)[1] < budget:
        upper *= 2.0
    best = brentq(lambda inverse: tilted(inverse)[1] - budget, 0.0, upper, xtol=1e-15, rtol=1e-14)
    return float(largest + spread * tilted(best)[0])
