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
    """The Gumbel distribution G(location, scale) of Section 2.2, the law of maxima: SciPy's `gumbel_r`."""

    location: float  # the mode, reward units
    scale: float  # beta of the paper, positive, reward units

    def __post_init__(self):
        arguments.positive("scale", self.scale)

    def density(self, x: ArrayLike) -> np.ndarray:
        """Returns p(x) = exp(-(z + exp(-z))) / scale, z = (x - location) / scale, in 1 / reward units.

        Section 2.2 prints exp(-(z + exp(-z))), which integrates to the scale: the factor 1 / scale is
        missing. Eq. 6 leaves the term out too; there it is a constant.
        """
        z = (np.asarray(x, np.float64) - self.location) / self.scale
        with np.errstate(over="ignore"):  # far below the location the density is 0
            return np.exp(-(z + np.exp(-z)) - math.log(self.scale))

    def sample(self, generator: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        return self.location + generator.gumbel(0.0, self.scale, shape)

    @property
    def mean(self) -> float:
        return self.location + self.scale * float(np.euler_gamma)


def fit_gumbel(samples: ArrayLike) -> tuple[float, float]:
    """Returns location and scale of the likeliest Gumbel distribution of samples.

    The likelihood equation is scale = mean(x) - sum(x w) / sum(w) with w = exp(-x / scale). Its right side
    falls as the scale grows, so there is one root, at most mean(x) - min(x). The location is -L^scale(-x).
    """
    x = _varied(samples)
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
    return float(location), unit * scale


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
