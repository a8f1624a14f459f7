"""Figures 1, 5 and 6: Bellman errors met in training, and the laws that fit them best."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from xql_jax.errors import UserError
from xql_jax.figures.paper_figure import RunsFigure, Table, long_table, where
from xql_jax.figures.recorded_runs import Point, RunGroup, read_points
from xql_jax.reports.error_fits import ErrorFits, fit_errors, plot_errors

# The paper clips errors "to the ranges shown", which it does not give; here the middle 99% are shown.
QUANTILES = (0.005, 0.995)
MAX_COLUMNS = 3


def read(groups: Sequence[RunGroup]) -> dict[str, Table]:
    """Reads `bellman_errors.csv` of each run.

    Source: Garg et al. 2023, Appendix D.2: errors of all of training together.
    Differs: the clip's range is that of the middle 99% of a panel's errors; fits of each step's errors alone
    are there, too, as a mixture of many scales has heavier tails than its parts.
    Returns:
        `errors`: as recorded. `ranges`: of each panel's clip. `fits`: of each law to a panel's clipped
        errors. `fits_by_step`: to those of one step alone.
    Raises:
        UserError: if no run has recorded any that differ, or as `read_points`.
    """
    points = read_points(groups, "bellman_errors.csv", "error", "Bellman errors")
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
            f"the runs have recorded no Bellman errors that differ, such as {groups[0].runs[0].path}: train "
            "with --bellman_error_interval=5000"
        )
    quality = ("law", "log_likelihood", "kolmogorov_smirnov")
    return {
        "errors": table,
        "ranges": long_table("task", "method", "low", "high", rows=ranges),
        "fits": long_table("task", "method", *quality, rows=fits),
        "fits_by_step": long_table("task", "method", "step", *quality, rows=fits_by_step),
    }


def draw(tables: Mapping[str, Table]) -> Figure:
    """A panel a task and method: the histogram, and the three laws."""
    ranges = tables["ranges"]
    count = len(ranges["low"])
    columns = min(MAX_COLUMNS, math.ceil(math.sqrt(count)))
    rows = -(-count // columns)
    figure = Figure(figsize=(1.0 + 5.2 * columns, 0.3 + 4.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, row in zip(panels, zip(*ranges.values(), strict=True), strict=False):
        task, method, low, high = row
        errors = where(tables["errors"], task=task, method=method)["value"]
        fits = fit_errors(errors, clip_range=(low, high))
        plot_errors(fits, axes, title=f"{method} on {task}", units="reward units")
    for axes in panels[count:]:
        axes.remove()
    return figure


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
