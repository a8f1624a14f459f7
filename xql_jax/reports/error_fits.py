"""Fits of three distributions to Bellman errors, as in Figures 1, 5 and 6 (Garg et al. 2023, D.2)."""

import dataclasses
import math
from typing import Generic, TypeVar

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit

from xql_jax.reports.palette import BLUE, GREEN, VERMILION
from xql_jax.reports.style import legend_below
from xql_jax.theory import arguments
from xql_jax.theory.gumbel import Gaussian, Gumbel, Law, fit_gaussian, fit_gumbel

NUM_BINS = 100
MAX_NEWTON_STEPS = 200

L = TypeVar("L", bound=Law)


@dataclasses.dataclass(frozen=True)
class Logistic(Law):
    """The logistic distribution: the difference of two independent Gumbel variables of equal scale."""

    location: float  # reward units
    scale: float  # reward units

    def log_density(self, x: ArrayLike) -> np.ndarray:
        size = np.abs(self._standardised(x))  # the density is symmetric
        return -size - 2.0 * np.log1p(np.exp(-size)) - math.log(self.scale)

    def cdf(self, x: ArrayLike) -> np.ndarray:
        return expit(self._standardised(x))

    def _standardised(self, x: ArrayLike) -> np.ndarray:
        return (np.asarray(x, np.float64) - self.location) / self.scale


@dataclasses.dataclass(frozen=True)
class Fit(Generic[L]):
    """A law (distribution) fitted to errors by maximum likelihood, and how well it fits."""

    law: L
    log_likelihood: float  # mean of log p over the errors, nats; depends on the errors' unit
    kolmogorov_smirnov: float  # largest difference of the cdfs, in [0, 1]


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorFits:
    """The clipped errors, and the three laws fitted to them."""

    errors: np.ndarray  # f64[N], reward units
    clipped: int  # the number of errors that the clip has changed
    gumbel: Fit[Gumbel]  # with the sign that is likelier, see `gumbel.law.sign`
    gaussian: Fit[Gaussian]
    logistic: Fit[Logistic]

    def by_law(self) -> dict[str, Fit]:
        """Returns the fits by name of their law; the Gumbel's name says on which side its long tail is."""
        skew = "right" if self.gumbel.law.sign == 1 else "left"
        return {f"Gumbel ({skew}-skewed)": self.gumbel, "Gaussian": self.gaussian, "logistic": self.logistic}


def fit_errors(errors: ArrayLike, *, clip_range: tuple[float, float] | None = None) -> ErrorFits:
    """Fits the Gumbel, Gaussian and logistic distributions to Bellman errors by maximum likelihood.

    Source: Garg et al. 2023, Appendix D.2.
    Differs: the paper fits no logistic distribution, does not say which sign its Gumbel has, and judges the
    fits by eye.
    Args:
        errors: f64[...], reward units; at least two of them differ.
        clip_range: errors outside are moved to its ends before the fit, so that outliers do not dominate it.
            They stay in the sample: many of them make two atoms, which no density fits. None: no clip.
    Raises:
        ValueError: if an error is not finite, all are equal after the clip, or the range is empty.
    """
    raw = arguments.samples("errors", errors).ravel()
    clipped = raw
    if clip_range is not None:
        low, high = clip_range
        if not low < high:
            raise ValueError(f"clip_range must go from a lower to a higher number, not {clip_range}")
        clipped = np.clip(raw, low, high)
    if clipped.min() == clipped.max():
        raise ValueError(f"errors must not all be equal, as they are to {clipped[0]}: no scale fits them")
    gumbels = [_judge(fit_gumbel(clipped, sign), clipped) for sign in (1, -1)]
    return ErrorFits(
        errors=clipped,
        clipped=int((clipped != raw).sum()),
        gumbel=max(gumbels, key=lambda fit: fit.log_likelihood),
        gaussian=_judge(fit_gaussian(clipped), clipped),
        logistic=_judge(fit_logistic(clipped), clipped),
    )


def fit_logistic(errors: np.ndarray) -> Logistic:
    """Returns the maximum-likelihood logistic distribution of errors that are not all equal.

    Uses Newton's method: the log-likelihood is concave in the slope 1 / scale and the shift location / scale.
    The moment estimate is so good a start that full steps converge. SciPy's fit can stop too early: for some
    errors with mean 0 it is off by 0.05 of the scale.

    Raises:
        ArithmeticError: if Newton's method does not converge.
    """
    gaussian = fit_gaussian(errors)
    x = (errors - gaussian.mean) / gaussian.standard_deviation
    slope, shift = math.pi / math.sqrt(3.0), 0.0
    for _ in range(MAX_NEWTON_STEPS):
        pull = np.tanh((slope * x - shift) / 2.0)
        bend = (1.0 - pull**2) / 2.0
        gradient = np.array([1.0 / slope - (x * pull).mean(), pull.mean()])
        across = -(x * bend).mean()
        step = np.linalg.solve([[slope**-2 + (x**2 * bend).mean(), across], [across, bend.mean()]], gradient)
        slope, shift = slope + float(step[0]), shift + float(step[1])
        if gradient @ step < 1e-20:  # twice the step's gain in log-likelihood
            scale = gaussian.standard_deviation / slope
            return Logistic(gaussian.mean + scale * shift, scale)
    raise ArithmeticError(f"no logistic distribution found in {MAX_NEWTON_STEPS} steps")


def plot_errors(fits: ErrorFits, axes: Axes, *, title: str, units: str) -> None:
    """Draws the histogram of the errors as a density, and the densities of the three fits over it.

    The legend below gives the numbers of all and of clipped errors. For each law it gives the mean
    log-likelihood per error and the Kolmogorov-Smirnov distance.

    Source: Garg et al. 2023, Figures 1, 5 and 6.
    Args:
        units: of the errors, for the axis labels, such as "reward units".
    """
    label = f"{len(fits.errors):,} errors" + (f", {fits.clipped:,} moved to the ends" if fits.clipped else "")
    axes.hist(fits.errors, bins=NUM_BINS, density=True, color="0.8", label=label)
    x = np.linspace(fits.errors.min(), fits.errors.max(), 500)
    styles = ((VERMILION, "-"), (BLUE, "--"), (GREEN, "-."))
    for (law, fit), (color, linestyle) in zip(fits.by_law().items(), styles, strict=True):
        numbers = f"{fit.log_likelihood:.3f} nats an error, KS {fit.kolmogorov_smirnov:.3f}"
        axes.plot(x, fit.law.density(x), color=color, linestyle=linestyle, label=f"{law}: {numbers}")
    axes.set(title=title, xlabel=f"Bellman error ({units})", ylabel=f"density (1 / {units})")
    axes.margins(x=0)
    legend_below(axes)


def _judge(law: L, errors: np.ndarray) -> Fit[L]:
    # The method affects only the p-value, which is not used. The exact one would take long.
    statistic = stats.kstest(errors, law.cdf, method="asymp").statistic
    return Fit(law, float(law.log_density(errors).mean()), float(statistic))
