"""Figures 8 and 9: last scores and the share of diverged members, against beta or the batch size."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from xql_jax.errors import UserError
from xql_jax.evaluation.scores import mean_and_interval
from xql_jax.figures.paper_figure import RunsFigure, Table, long_table, where
from xql_jax.figures.recorded_runs import RunPart, points_of, read_parts
from xql_jax.learners.registry import OFFLINE
from xql_jax.reports.charts import short_number
from xql_jax.reports.line_looks import looks_of
from xql_jax.reports.palette import scale
from xql_jax.reports.style import (
    LEAST_FOR_BAND,
    count_axis,
    dots,
    legend_below,
    legend_height,
    styled,
)
from xql_jax.runs.load import SavedRun

COLUMNS = ("task", "method", "value", "seed", "step", "score", "diverged")


def read(runs: Sequence[SavedRun], *, field: str) -> dict[str, Table]:
    """Reads every evaluation of the runs that have the field, as a setting or in a sweep.

    A member is one seed with one setting.

    Returns:
        `curves`: one row per evaluation of a member, with the field's value and whether the member had
        diverged by then. `last`: by task, method and value the mean of the last scores, the half-width of its
        95% interval over seeds, and the share of members that diverged.
    Raises:
        UserError: if no task and method has runs with different values of the field.
    """
    points = [
        (task, method, value, seed, step, score, diverged)
        for part in read_parts(runs, "evaluations.csv", "score", "scores", but=field)
        if (value := _value(part, field)) is not None
        for task, method, seed, step, score, diverged in points_of(part, "score")
    ]
    by_method: dict[tuple[str, str], set[float]] = {}
    for task, method, value, *_ in points:
        by_method.setdefault((task, method), set()).add(value)
    varied = {place for place, values in by_method.items() if len(values) > 1}
    points = [point for point in points if point[:2] in varied]
    if not points:
        sweep = "--methods=xql:batch_size=64,xql:batch_size=1024"
        how = sweep if field == "batch_size" else f"--sweep='{field}=1,2'"
        raise UserError(f"no runs that vary {field}: train some, as reproduce.py {how} does")
    last: dict[tuple, list[tuple]] = {}
    for point in points:
        last.setdefault(point[:3], []).append(point)
    rows = []
    for place, members in last.items():
        end = max(point[4] for point in members)
        ended = [point for point in members if point[4] == end]
        mean, half_width = map(float, mean_and_interval(np.array([point[5] for point in ended])))
        rows.append((*place, mean, half_width, len(ended), float(np.mean([point[6] for point in ended]))))
    return {
        "curves": long_table(*COLUMNS, rows=points),
        "last": long_table(
            "task", "method", "value", "score", "interval", "seeds", "share_diverged", rows=sorted(rows)
        ),
    }


@styled
def draw(tables: Mapping[str, Table], *, field: str) -> Figure:
    """Draws one column per task: last scores, the share of members that diverged, and learning curves.

    Methods are drawn a little apart. An interval needs three seeds. Curves are left out if there is only one
    evaluation step.
    """
    last, curves = tables["last"], tables["curves"]
    tasks = list(dict.fromkeys(last["task"].tolist()))
    methods = looks_of(last["method"].tolist())
    values = sorted(set(last["value"].tolist()))
    colors = scale(len(values))
    has_curves = len(np.unique(curves["step"])) > 1
    heights = [2.6, 0.9 + methods.height] + [2.9 + legend_height(len(values), 4, field)] * has_curves
    figure = Figure(figsize=(4.6 * len(tasks), 0.4 + sum(heights)))
    grid = figure.subplots(len(heights), len(tasks), squeeze=False, height_ratios=heights)
    for column, task in zip(grid.T, tasks, strict=True):
        scores, shares = column[:2]
        for number, (method, look) in enumerate(methods.by_name.items()):
            rows = where(last, task=task, method=method)
            beside = rows["value"] * 1.03 ** (number - (len(methods.by_name) - 1) / 2)
            style = {"color": look.color, "linestyle": look.linestyle, "marker": "o", "label": look.label}
            interval = np.where(rows["seeds"] >= LEAST_FOR_BAND, rows["interval"], np.nan)
            scores.errorbar(beside, rows["score"], interval, capsize=2, elinewidth=0.8, **style)
            shares.plot(beside, rows["share_diverged"], **style)
        scores.set(title=task, ylabel="last score (percent)")
        shares.set(xlabel=field, ylabel="share diverged", ylim=(-0.1, 1.1), yticks=(0, 1))
        for axes in (scores, shares):
            axes.set(xscale="log", xticks=values)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.sharex(scores) if axes is not scores else None
        scores.tick_params(labelbottom=False)
        legend_below(shares, methods.columns, methods.title)
        if has_curves:
            first = where(last, task=task)["method"][0]
            _draw_curves(
                column[2],
                where(curves, task=task, method=first),
                dict(zip(values, colors, strict=True)),
                field,
            )
            column[2].set(ylabel=f"score (percent): {methods.by_name[first].label}")
    return figure


def _draw_curves(axes: Axes, curves: Table, colors: Mapping[float, str], field: str) -> None:
    """Draws the mean over seeds at each step, one line per value."""
    for value, color in colors.items():
        rows = where(curves, value=value)
        steps = np.unique(rows["step"])
        means = [rows["score"][rows["step"] == step].mean() for step in steps]
        axes.plot(steps, means, marker=dots(len(steps)), color=color, label=short_number(value))
    axes.set(xlabel="updates (steps)")
    count_axis(axes.xaxis)
    legend_below(axes, 4, field)


def _value(part: RunPart, field: str) -> float | None:
    """Returns the field's value; None if the part does not have the field."""
    value = part.settings.get(field, part.settings.get(f"config.{field}"))
    return None if value is None else float(value)


def _figure(what: str, field: str) -> RunsFigure:
    return RunsFigure(
        what, tuple(OFFLINE), functools.partial(read, field=field), functools.partial(draw, field=field)
    )


FIGURE_8 = _figure("last scores and divergence against beta", "beta")
FIGURE_9 = _figure("last scores and divergence against the batch size", "batch_size")
