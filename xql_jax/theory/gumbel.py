"""The Gumbel distribution, its fit and the Gumbel-max trick (Garg et al. 2023, Sec. 2.2 and 3.2)."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from xql_jax.theory import arguments
from xql_jax.theory.log_partition import log_partition


@dataclasses.dataclass(frozen=True)
class Gumbel:
    """The Gumbel distribution G(location, scale) of Section 2.2, or its mirror image.

    With sign +1 its long tail is on the right. This is the law of maxima, SciPy's `gumbel_r`. With sign -1 it
    is the law of location - G(0, scale), the noise of Section 3.2. Its long tail is on the left: SciPy's
    `gumbel_l`. The location is the mode of both.
    """

    location: float  # reward units
    scale: float  # beta of the paper, positive, reward units
    sign: int = 1  # of the skewness, 1 or -1

    def __post_init__(self):
        arguments.positive("scale", self.scale)

    def log_density(self, x: ArrayLike) -> np.ndarray:
        """Returns log p(x) = -(z + exp(-z)) - log(scale), z = sign * (x - location) / scale, of x's shape.

        Section 2.2 prints p(x) = exp(-(z + exp(-z))), which integrates to the scale: the factor 1 / scale is
        missing. Eq. 6 leaves the term out too; there it is a constant.
        """
        z = self.sign * (np.asarray(x, np.float64) - self.location) / self.scale
        with np.errstate(over="ignore", invalid="ignore"):
            exponent = np.where(z == -np.inf, -np.inf, -(z + np.exp(-z)))  # inf - inf has this limit
        return exponent - math.log(self.scale)

    def density(self, x: ArrayLike) -> np.ndarray:
        """Returns p(x), of x's shape, in 1 / reward units."""
        return np.exp(self.log_density(x))

    def sample(self, generator: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Returns independent samples of the shape, reward units."""
        return self.location + self.sign * generator.gumbel(0.0, self.scale, shape)

    @property
    def mean(self) -> float:
        """location + sign * scale * 0.577..., reward units."""
        return self.location + self.sign * self.scale * float(np.euler_gamma)


def fit_gumbel(samples: ArrayLike, sign: int) -> Gumbel:
    """Fits the Gumbel distribution of that sign to the samples by maximum likelihood.

    The likelihood equation for sign +1 is scale = mean(x) - sum(x w) / sum(w) with w = exp(-x / scale). Its
    right side falls as the scale grows, so there is one root, at most mean(x) - min(x). The location follows
    as -L^scale(-x); with sign -1 it is L^scale(x), the minimiser of Gumbel regression (Eq. 7).

    Args:
        samples: f64[...], at least two different ones, reward units.
        sign: 1 or -1, that of the skewness.
    """
    x = sign * _varied(samples)
    least = x.min()
    # Excess over the least sample, in units of its mean, so that neither offset nor unit costs precision.
    excess = (x - least).ravel()
    unit = float(excess.mean())
    excess /= unit

    def imbalance(scale: float) -> float:
        weights = np.exp(-excess / scale)
        return scale - 1.0 + float(excess @ weights / weights.sum())

    # The root is at least 1 / (1 + N / e): y exp(-y / scale) <= scale / e, and the least sample weighs 1.
    scale = brentq(imbalance, 1.0 / (1.0 + excess.size), 1.0, xtol=1e-15, rtol=1e-14)
    location = least - unit * float(log_partition(-excess, scale))
    return Gumbel(sign * float(location), unit * scale, sign)


def fit_gaussian(samples: ArrayLike) -> tuple[float, float]:
    """Returns mean and standard deviation of samples as in `fit_gumbel`: the likeliest normal law."""
    x = _varied(samples)
    reference = x.flat[0]  # a mean of differences keeps the digits that a large offset would take
    mean = float((x - reference).mean())
    deviations = (x - reference) - mean
    unit = float(np.abs(deviations).max())  # the squares of tiny deviations would underflow
    return float(reference) + mean, unit * math.sqrt(((deviations / unit) ** 2).mean())


def _varied(samples: ArrayLike) -> np.ndarray:
    x = arguments.samples("samples", samples)
    if x.min() == x.max():
        raise ValueError(f"samples must not all be equal, as they are to {x.flat[0]}: no scale fits them")
    return x


def gumbel_max_law(x: ArrayLike, beta: float) -> tuple[Gumbel, np.ndarray]:
    """Returns the laws of max(x + noise) and of its index, for x f64[N] and independent noise G(0, beta).

    Source: Garg et al. 2023, Section 2.2 (Gumbel-Max trick): G(beta log sum exp(x / beta), beta) and
        softmax(x / beta). Here the sum is not a mean: the location is L^beta(x) + beta log N.
    """
    values = np.asarray(x, np.float64)
    location = float(log_partition(values, beta)) + beta * math.log(len(values))
    weights = np.exp((values - values.max()) / beta)  # using the location, rounding could spoil the sum
    return Gumbel(location, float(beta)), weights / weights.sum()
