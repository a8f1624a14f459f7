"""Figures 1, 5 and 6: Bellman errors recorded in training, and the distributions fitted to them."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from xql_jax.errors import UserError
from xql_jax.figures.paper_figure import RunsFigure, Table, long_table, where
from xql_jax.figures.recorded_runs import Point, points_of, read_parts
from xql_jax.reports.error_fits import ErrorFits, fit_errors, plot_errors
from xql_jax.reports.style import legend_height, styled
from xql_jax.runs.load import SavedRun

# The paper clips errors "to the ranges shown", which it does not give; here the middle 99% are shown.
QUANTILES = (0.005, 0.995)
MAX_COLUMNS = 3
WIDEST = 40  # characters per line of a title
HOW = (
    "Errors of all snapshots and seeds in one histogram. Before the laws are fitted, the 1% outside the "
    "middle 99% are moved to its ends, where they make two atoms. A log-likelihood is a mean over the errors."
)


def read(runs: Sequence[SavedRun]) -> dict[str, Table]:
    """Reads `bellman_errors.csv` of each run.

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
    parts = read_parts(runs, "bellman_errors.csv", "error", "Bellman errors")
    points = [point for part in parts for point in points_of(part, "error")]
    table = long_table(*Point._fields, rows=points)
    ranges, fits, fits_by_step = [], [], []
    for panel in dict.fromkeys((point.task, point.method) for point in points):
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
            f"the runs have recorded no Bellman errors that differ, such as {runs[0].path}: train "
            "with --bellman_error_interval=5000"
        )
    quality = ("law", "log_likelihood", "kolmogorov_smirnov")
    return {
        "errors": table,
        "ranges": long_table("task", "method", "low", "high", rows=ranges),
        "fits": long_table("task", "method", *quality, rows=fits),
        "fits_by_step": long_table("task", "method", "step", *quality, rows=fits_by_step),
    }


@styled
def draw(tables: Mapping[str, Table]) -> Figure:
    """Draws one panel per task and method: histogram and three laws. The title says what is pooled."""
    ranges = tables["ranges"]
    count = len(ranges["low"])
    columns = min(MAX_COLUMNS, math.ceil(math.sqrt(count)))
    rows = -(-count // columns)
    figure = Figure(figsize=(3.9 * columns, 0.5 + (3.0 + legend_height(4)) * rows))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, row in zip(panels, zip(*ranges.values(), strict=True), strict=False):
        task, method, low, high = row
        of_panel = where(tables["errors"], task=task, method=method)
        fits = fit_errors(of_panel["value"], clip_range=(low, high))
        title = "\n".join(textwrap.wrap(f"{method} on {task}", WIDEST))
        plot_errors(fits, axes, title=f"{title}\n{_pooled(of_panel)}", units="reward units")
    for axes in panels[count:]:
        axes.remove()
    figure.suptitle("\n".join(textwrap.wrap(HOW, 62 * columns)), x=0.01, ha="left", fontsize="small")
    return figure


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


FIGURE_1 = RunsFigure(
    "Bellman errors of SAC on cheetah-run; Gumbel, Gaussian and logistic laws fitted",
    ("sac",),
    read,
    draw,
    tasks=("cheetah-run",),
)
FIGURE_5 = RunsFigure("Bellman errors of SAC on every task, laws fitted", ("sac",), read, draw)
FIGURE_6 = RunsFigure("Bellman errors of TD3 on every task, laws fitted", ("td3",), read, draw)
