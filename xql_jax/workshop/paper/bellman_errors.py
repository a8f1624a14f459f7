"""Figures 1, 5 and 6: Bellman errors recorded in training, and the distributions fitted to them.

Source: Garg et al. 2023, Appendix D.2.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy import stats

from xql_jax.errors import UserError
from xql_jax.pictures.style import BLUE, GREEN, VERMILION, legend_below, legend_height, styled
from xql_jax.theory import arguments
from xql_jax.workshop.paper.columns import Tables, long_table, where
from xql_jax.workshop.paper.curves import Point, points_of, scores_in

# The paper clips errors "to the ranges shown", which it does not give; here the middle 99% are shown.
QUANTILES = (0.005, 0.995)
NUM_BINS = 100
MAX_COLUMNS = 3
WIDEST = 40  # characters per line of a title


class Fit(NamedTuple):
    """A law (distribution) fitted to errors by maximum likelihood, and how well it fits."""

    law: stats.distributions.rv_frozen
    log_likelihood: float  # mean of log p over the errors, nats; depends on the errors' unit
    kolmogorov_smirnov: float  # largest difference of the cdfs, in [0, 1]


def fit_errors(errors: ArrayLike) -> dict[str, Fit]:
    """Fits the Gumbel, Gaussian and logistic distributions to Bellman errors by maximum likelihood.

    Source: Garg et al. 2023, Appendix D.2.
    Differs: the paper fits no logistic distribution, does not say which sign its Gumbel has, and judges the
    fits by eye.
    Args:
        errors: f64[...], reward units; ValueError if any is not finite, or all are equal.
    Returns:
        The fits by name of their law. Of the Gumbel and its mirror image there is the likelier; the name
        says on which side its long tail is.
    """
    x = arguments.samples("errors", errors).ravel()
    if x.min() == x.max():
        raise ValueError(f"errors must not all be equal, as they are to {x[0]:g}: no scale fits them")

    mean, deviation = x.mean(), x.std()

    def fitted(law: stats.rv_continuous) -> Fit:
        """SciPy's fits want numbers of about 1: theirs of the logistic law stop too early at a location of 0.

        Here the location is within 0.001 of the scale also beside an error a billion times as large.
        """
        location, scale = law.fit((x - mean) / deviation + 1.0)
        likeliest = law(mean + deviation * (location - 1.0), deviation * scale)
        # The method affects only the p-value, which is not used. The exact p-value would take long.
        statistic = stats.kstest(x, likeliest.cdf, method="asymp").statistic
        return Fit(likeliest, float(likeliest.logpdf(x).mean()), float(statistic))

    right, left = fitted(stats.gumbel_r), fitted(stats.gumbel_l)
    fits = {"Gumbel (right-skewed)": right}
    if left.log_likelihood > right.log_likelihood:
        fits = {"Gumbel (left-skewed)": left}
    return fits | {"Gaussian": fitted(stats.norm), "logistic": fitted(stats.logistic)}


def read(root: Path, *, method: str, tasks: Sequence[str] | None = None) -> Tables:
    """Reads `bellman_errors.csv` of each run of the method.

    Source: Garg et al. 2023, Appendix D.2: errors are logged every 5,000 steps and clipped, and laws
    (distributions) are fitted to them.
    Differs: D.2 does not say whether it pools the errors of several snapshots. Here a panel pools all its
    steps and seeds. Errors are clipped to the range of the middle 99%: the other 1% stay in the sample, at
    the ends of the range.
    Returns:
        `errors`: as recorded. `ranges`: the clip's range for each panel. `fits`: the fit of each law to a
        panel's clipped errors. UserError if no run has recorded errors that differ.
    """
    scores = scores_in(root, (method,), tasks, file_name="bellman_errors.csv", column="error")
    points = points_of(scores, "Bellman errors")
    table = long_table(*Point._fields, rows=points)
    ranges, fits = [], []
    for task, method in dict.fromkeys((point.task, point.method) for point in points):
        errors = where(table, task=task, method=method)["value"]
        low, high = np.quantile(errors, QUANTILES).tolist()
        if low == high:
            continue
        ranges.append((task, method, low, high))
        for law, fit in fit_errors(np.clip(errors, low, high)).items():
            fits.append((task, method, law, fit.log_likelihood, fit.kolmogorov_smirnov))
    if not ranges:
        raise UserError(
            f"--runs={root}: the runs there have recorded no Bellman errors that differ: train with "
            "--bellman_error_interval=5000"
        )
    return {
        "errors": table,
        "ranges": long_table("task", "method", "low", "high", rows=ranges),
        "fits": long_table("task", "method", "law", "log_likelihood", "kolmogorov_smirnov", rows=fits),
    }


@styled()
def draw_bellman_errors(tables: Tables) -> Figure:
    """Draws one panel per task and method: histogram and three laws."""
    count = len(tables["ranges"]["low"])
    columns = min(MAX_COLUMNS, math.ceil(math.sqrt(count)))
    rows = -(-count // columns)
    figure = Figure(figsize=(3.9 * columns, (3.0 + legend_height(["law"] * 4)) * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, row in zip(panels, zip(*tables["ranges"].values(), strict=True), strict=False):
        task, method, low, high = row
        of_panel = where(tables["errors"], task=task, method=method)
        errors = np.clip(of_panel["value"], low, high)
        moved = int((errors != of_panel["value"]).sum())
        label = f"{len(errors):,} errors" + (f", {moved:,} moved to the ends" if moved else "")
        axes.hist(errors, bins=NUM_BINS, density=True, color="0.8", label=label)
        x = np.linspace(low, high, 500)
        styles = ((VERMILION, "-"), (BLUE, "--"), (GREEN, "-."))
        for (law, fit), (color, linestyle) in zip(fit_errors(errors).items(), styles, strict=True):
            numbers = f"{fit.log_likelihood:.3f} nats an error, KS {fit.kolmogorov_smirnov:.3f}"
            axes.plot(x, fit.law.pdf(x), color=color, linestyle=linestyle, label=f"{law}: {numbers}")
        title = "\n".join(textwrap.wrap(f"{method} on {task}", WIDEST))
        snapshots, seeds = (len(np.unique(of_panel[name])) for name in ("step", "seed"))
        axes.set(title=f"{title}\npooled: {snapshots} snapshot(s) of {seeds} seed(s)")
        axes.set(xlabel="Bellman error (reward units)", ylabel="density (1 / reward units)")
        axes.margins(x=0)
        legend_below(axes)
    for axes in panels[count:]:
        axes.remove()
    return figure
