"""Figures 1, 5 and 6: Bellman errors recorded in training, and the distributions fitted to them.

Source: Garg et al. 2023, Appendix D.2.
"""

import dataclasses
import functools
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit

from xql_jax.errors import UserError
from xql_jax.figures.runs import POINT_COLUMNS, points_of, scores_in
from xql_jax.figures.tables import PaperFigure, Table, Tables, long_table, where
from xql_jax.reports.style import BLUE, GREEN, VERMILION, legend_below, legend_height, styled
from xql_jax.theory import arguments
from xql_jax.theory.gumbel import Gaussian, Gumbel, Law, fit_gaussian, fit_gumbel

# The paper clips errors "to the ranges shown", which it does not give; here the middle 99% are shown.
QUANTILES = (0.005, 0.995)
NUM_BINS = 100
MAX_NEWTON_STEPS = 200
MAX_COLUMNS = 3
WIDEST = 40  # characters per line of a title
HOW = (
    "Errors of all snapshots and seeds in one histogram. Before the laws are fitted, the 1% outside the "
    "middle 99% are moved to its ends, where they make two atoms. A log-likelihood is a mean over the errors."
)

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


def _judge(law: L, errors: np.ndarray) -> Fit[L]:
    # The method affects only the p-value, which is not used. The exact one would take long.
    statistic = stats.kstest(errors, law.cdf, method="asymp").statistic
    return Fit(law, float(law.log_density(errors).mean()), float(statistic))


def read(root: Path, *, algorithm: str, tasks: Sequence[str] | None = None) -> Tables:
    """Reads `bellman_errors.csv` of each run of the algorithm.

    Source: Garg et al. 2023, Appendix D.2: errors are logged every 5,000 steps and clipped, and laws
    (distributions) are fitted to them.
    Differs: D.2 does not say whether it pools the errors of several snapshots. Here a panel pools all its
    steps and seeds. Because a mixture of several scales has heavier tails than its parts, there are also fits
    to the errors of each single step. Errors are clipped to the range of the middle 99%: the other 1% stay in
    the sample, at the ends of the range.
    Returns:
        `errors`: as recorded. `ranges`: the clip's range for each panel. `fits`: the fit of each law to a
        panel's clipped errors. `fits_by_step`: the same for the errors of each single step.
    Raises:
        UserError: if all recorded errors are equal, or if no run has recorded errors.
    """
    scores = scores_in(root, (algorithm,), tasks, file_name="bellman_errors.csv", column="error")
    points = points_of(scores, "Bellman errors")
    table = long_table(*POINT_COLUMNS, rows=points)
    ranges, fits, fits_by_step = [], [], []
    for panel in dict.fromkeys(point[:2] for point in points):
        of_panel = where(table, task=panel[0], method=panel[1])
        low, high = _range(of_panel["value"])
        if low == high:
            continue
        ranges.append((*panel, low, high))
        fits += _rows(panel, fit_errors(of_panel["value"], clip_range=(low, high)))
        for step in np.unique(of_panel["step"]).tolist():
            of_step = where(of_panel, step=step)["value"]
            low, high = _range(of_step)
            if low < high:
                fits_by_step += _rows((*panel, step), fit_errors(of_step, clip_range=(low, high)))
    if not ranges:
        raise UserError(
            f"--runs={root}: the runs there have recorded no Bellman errors that differ: train with "
            "--bellman_error_interval=5000"
        )
    quality = ("law", "log_likelihood", "kolmogorov_smirnov")
    return {
        "errors": table,
        "ranges": long_table("task", "method", "low", "high", rows=ranges),
        "fits": long_table("task", "method", *quality, rows=fits),
        "fits_by_step": long_table("task", "method", "step", *quality, rows=fits_by_step),
    }


@styled
def draw(tables: Tables) -> Figure:
    """Draws one panel per task and method: histogram and three laws. The title says what is pooled."""
    ranges = tables["ranges"]
    count = len(ranges["low"])
    columns = min(MAX_COLUMNS, math.ceil(math.sqrt(count)))
    rows = -(-count // columns)
    figure = Figure(figsize=(3.9 * columns, 0.5 + (3.0 + legend_height(["law"] * 4)) * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, row in zip(panels, zip(*ranges.values(), strict=True), strict=False):
        task, method, low, high = row
        of_panel = where(tables["errors"], task=task, method=method)
        title = "\n".join(textwrap.wrap(f"{method} on {task}", WIDEST))
        axes.set(title=f"{title}\n{_pooled(of_panel)}")
        _draw_fits(axes, fit_errors(of_panel["value"], clip_range=(low, high)))
    for axes in panels[count:]:
        axes.remove()
    figure.suptitle("\n".join(textwrap.wrap(HOW, 62 * columns)), x=0.01, ha="left", fontsize="small")
    return figure


def _draw_fits(axes: Axes, fits: ErrorFits) -> None:
    """Draws the histogram of the errors as a density, and the densities of the three fits over it.

    For each law the legend gives the mean log-likelihood per error and the Kolmogorov-Smirnov distance.
    """
    label = f"{len(fits.errors):,} errors" + (f", {fits.clipped:,} moved to the ends" if fits.clipped else "")
    axes.hist(fits.errors, bins=NUM_BINS, density=True, color="0.8", label=label)
    x = np.linspace(fits.errors.min(), fits.errors.max(), 500)
    styles = ((VERMILION, "-"), (BLUE, "--"), (GREEN, "-."))
    for (law, fit), (color, linestyle) in zip(fits.by_law().items(), styles, strict=True):
        numbers = f"{fit.log_likelihood:.3f} nats an error, KS {fit.kolmogorov_smirnov:.3f}"
        axes.plot(x, fit.law.density(x), color=color, linestyle=linestyle, label=f"{law}: {numbers}")
    axes.set(xlabel="Bellman error (reward units)", ylabel="density (1 / reward units)")
    axes.margins(x=0)
    legend_below(axes)


def _pooled(errors: Table) -> str:
    """Says how many snapshots and seeds a panel pools."""
    counts = [
        (len(np.unique(errors[column])), what) for column, what in (("step", "snapshot"), ("seed", "seed"))
    ]
    return "pooled: " + " of ".join(f"{count} {what}{'s' * (count > 1)}" for count, what in counts)


def _range(errors: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(errors, QUANTILES)
    return float(low), float(high)


def _rows(key: tuple, fits: ErrorFits) -> list[tuple]:
    return [(*key, law, fit.log_likelihood, fit.kolmogorov_smirnov) for law, fit in fits.by_law().items()]


FIGURE_1 = PaperFigure(
    "Bellman errors of SAC on cheetah-run; Gumbel, Gaussian and logistic laws fitted",
    functools.partial(read, algorithm="sac", tasks=("cheetah-run",)),
    draw,
)
FIGURE_5 = PaperFigure(
    "Bellman errors of SAC on every task, laws fitted", functools.partial(read, algorithm="sac"), draw
)
FIGURE_6 = PaperFigure(
    "Bellman errors of TD3 on every task, laws fitted", functools.partial(read, algorithm="td3"), draw
)
