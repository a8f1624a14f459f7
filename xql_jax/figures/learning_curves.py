"""Figures 3 and 7: returns of methods over training, the mean over seeds with its 95% interval."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xql_jax.errors import UserError
from xql_jax.evaluation.scores import mean_and_interval
from xql_jax.figures.paper_figure import RunsFigure, Table, long_table, where
from xql_jax.figures.recorded_runs import RunGroup
from xql_jax.learners.registry import OFFLINE, ONLINE
from xql_jax.reports.palette import LINES
from xql_jax.reports.summary import by_setting, read_rows

STYLES = ("-", "--", "-.", ":")  # where there are more methods than colours
MAX_COLUMNS = 4


def read(groups: Sequence[RunGroup], *, quantity: str) -> dict[str, Table]:
    """Reads `evaluations.csv` of each run.

    Args:
        quantity: the column that is shown, "return" or "score".
    Returns:
        `seeds`: each seed's values. `curves`: their mean at each step and Student's 95% interval of it, which
        is NaN for a single seed.
    Raises:
        UserError: if two runs of a method have one seed in common.
    """
    seeds: list[tuple[str, str, int, int, float]] = []
    for group in groups:
        run_of: dict[tuple[str, int], Path] = {}
        for run in group.runs:
            for setting, rows in by_setting(read_rows(run.path / "evaluations.csv")).items():
                method = " ".join((group.method, *(f"{name}={value:g}" for name, value in setting)))
                for row in rows:
                    seed = int(row["seed"])
                    if run_of.setdefault((method, seed), run.path) != run.path:
                        twice = f"{run_of[method, seed]} and {run.path}"
                        raise UserError(f"--runs: {method} on {group.task} has seed {seed} twice: {twice}")
                    seeds.append((group.task, method, seed, int(row["step"]), float(row[quantity])))
    if not seeds:
        raise UserError(f"--runs: nothing was evaluated in {groups[0].runs[0].path}, nor in others like it")
    values_at: dict[tuple[str, str, int], list[float]] = {}
    for task, method, _, step, value in seeds:
        values_at.setdefault((task, method, step), []).append(value)
    curves = []
    for point, values in values_at.items():
        mean, half_width = map(float, mean_and_interval(np.array(values)))
        curves.append((*point, mean, mean - half_width, mean + half_width, len(values)))
    return {
        "seeds": long_table("task", "method", "seed", "step", quantity, rows=seeds),
        "curves": long_table("task", "method", "step", "mean", "low", "high", "seeds", rows=curves),
    }


def draw(tables: Mapping[str, Table], *, unit: str, quantity: str) -> Figure:
    """A panel a task. Axes are as high as the seeds go: the interval over two or three is wider."""
    curves, seeds = tables["curves"], tables["seeds"]
    tasks = list(dict.fromkeys(curves["task"].tolist()))
    methods = sorted(set(curves["method"].tolist()))
    columns = min(MAX_COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(1.0 + 4.2 * columns, 0.9 + 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, task in zip(panels, tasks, strict=False):
        for number, method in enumerate(methods):
            curve = where(curves, task=task, method=method)
            if not len(curve["step"]):
                continue
            style = {"color": LINES[number % len(LINES)], "linestyle": STYLES[number // len(LINES) % 4]}
            axes.plot(curve["step"], curve["mean"], label=method, **style)
            interval = curve["low"], curve["high"]
            axes.fill_between(curve["step"], *interval, color=style["color"], alpha=0.15, linewidth=0)
        *_, values = where(seeds, task=task).values()
        margin = 0.05 * max(float(np.ptp(values)), 1e-9)
        axes.set(
            title=task,
            xlabel=unit,
            ylabel=quantity,
            ylim=(values.min() - margin, values.max() + margin),
        )
        axes.grid(alpha=0.3)
    for axes in panels[len(tasks) :]:
        axes.remove()
    handles = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    figure.legend(handles=[handles[method] for method in methods], loc="outside lower center", ncols=6)
    return figure


FIGURE_3 = RunsFigure(
    "online returns over training, mean over seeds with 95% interval",
    tuple(ONLINE),
    functools.partial(read, quantity="return"),
    functools.partial(draw, unit="steps of the environment", quantity="return (reward units)"),
)
FIGURE_7 = RunsFigure(
    "offline scores over training, mean over seeds with 95% interval",
    tuple(OFFLINE),
    functools.partial(read, quantity="score"),
    functools.partial(draw, unit="updates (steps)", quantity="normalised score (percent)"),
)
