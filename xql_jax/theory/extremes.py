"""The law of the maximum of independent variables, without simulation (Garg et al. 2023, Theorem 1).

The theorem says that the maximum of n i.i.d. variables with exponential tails "follows" the Gumbel
distribution as n grows. The printed statement needs four remarks.

- The maximum itself has no limit law: it goes to the upper end of the support. What converges is (max - b_n)
  / a_n, with the constants of `limiting_gumbel`.
- An exponential tail is not enough: the maximum of geometric variables has no limit law, because its jumps do
  not vanish. A sufficient condition (von Mises) is that the slope of the reciprocal hazard rate, (1 - F(x)) /
  f(x), goes to 0. The exponential, logistic, normal and gamma distributions satisfy it.
- Footnote 2 includes bounded variables, because they are sub-Gaussian. For this limit that is wrong: the
  maximum of uniform variables, normalised, tends to a Weibull law, the mirrored exponential.
- Of G and its mirror image, only G is max-stable. The mirror image, which Section 3.2 takes as the noise, is
  min-stable; the maximum of such variables tends to G, but slowly.
"""

import math
from typing import Any

import numpy as np

from xql_jax.theory import arguments
from xql_jax.theory.gumbel import Gumbel

# Beyond these the Gumbel cdf is within 2e-16 of 0 and of 1.
LOWEST_Z, HIGHEST_Z = -3.6, 36.0


def maximum_of_gumbels(gumbel: Gumbel, count: int) -> Gumbel:
    """Returns the law of the maximum of independent variables, each of law G(location, scale).

    It is G(location + scale * log(count), scale), exactly.

    Source: Garg et al. 2023, Theorem 1, second sentence (max-stability).
    Args:
        gumbel: with sign +1; the mirrored one is not max-stable.
        count: how many variables.
    """
    if gumbel.sign != 1:
        raise ValueError(f"gumbel must have sign 1 to be max-stable, not {gumbel.sign}")
    shift = gumbel.scale * math.log(arguments.positive_count("count", count))
    return Gumbel(gumbel.location + shift, gumbel.scale)


def limiting_gumbel(distribution: Any, count: int) -> Gumbel:
    """Returns G(b_n, a_n), which approximates the law of the maximum of n = count variables (Theorem 1).

    b_n is the quantile of 1 - 1/n and a_n = 1 / (n f(b_n)), f the density (the von Mises constants).

    Source: Garg et al. 2023, Theorem 1, which leaves the constants out.
    Args:
        distribution: a frozen continuous one of `scipy.stats`.
        count: whole, at least 2; up to 10**300 if the distribution's upper tail is precise. The density at
            b_n must be positive.
    """
    number = float(arguments.positive_count("count", count))
    if number < 2.0:
        raise ValueError(f"count must be at least 2, not {count}: the quantile of 0 may be infinite")
    quantile = float(distribution.isf(1.0 / number))
    return Gumbel(quantile, 1.0 / (number * arguments.positive("density", float(distribution.pdf(quantile)))))


def maximum_distance(distribution: Any, count: int, gumbel: Gumbel) -> float:
    """Returns the largest difference between the cdf of the maximum of count variables and a Gumbel cdf.

    The maximum's cdf is F(x)^count, so nothing is drawn. By Theorem 1 the result tends to 0 for
    `gumbel = limiting_gumbel(distribution, count)` as count grows.

    Args:
        distribution: of one variable; a frozen continuous one of `scipy.stats`. With a bounded one, rounding
            near the support's end costs about 1e-16 * count.
        count: how many variables.
        gumbel: with sign +1.
    Returns:
        The supremum over x, in [0, 1].
    """
    number = float(arguments.positive_count("count", count))
    if gumbel.sign != 1:
        raise ValueError(f"gumbel must have sign 1, as maxima have, not {gumbel.sign}")

    def differences(z: np.ndarray) -> np.ndarray:
        x = gumbel.location + gumbel.scale * z
        # SciPy takes the logarithm from the upper tail where the cdf is close to 1: needed for a large count.
        log_cdf = distribution.logcdf(x)
        return np.abs(np.exp(number * log_cdf) - gumbel.cdf(x))

    # Both cdfs rise, and beyond the ends the Gumbel cdf is flat: nowhere outside is the difference larger.
    low, high = LOWEST_Z, HIGHEST_Z
    largest = 0.0
    for _ in range(5):
        z = np.linspace(low, high, 4001)
        difference = differences(z)
        best = int(difference.argmax())
        largest = max(largest, float(difference[best]))
        low, high = z[max(best - 1, 0)], z[min(best + 1, len(z) - 1)]
    return largest
