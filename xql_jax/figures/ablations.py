"""Figures 8 and 9: last scores and the share of diverged members, against beta or the batch size."""

import functools
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from xql_jax.errors import UserError
from xql_jax.figures.runs import points_of, scores_in
from xql_jax.figures.tables import PaperFigure, Tables, long_table, unique, where
from xql_jax.learners.registry import OFFLINE
from xql_jax.reports.results import grouped
from xql_jax.reports.style import (
    LEAST_FOR_BAND,
    count_axis,
    draw_curve,
    legend_below,
    legend_columns,
    legend_height,
    looks_of,
    scale,
    short_number,
    styled,
)
from xql_jax.rollout.scores import mean_and_interval


def read(root: Path, *, field: str) -> Tables:
    """Reads every evaluation of the offline runs that have the field, as a setting or in a sweep.

    Returns:
        `curves`: one row per evaluation of a member (one seed with one setting), with the field's value and
        whether the member had diverged by then. `last`: by task, method and value the mean of the last
        scores, the half-width of its 95% interval over seeds, and the share of members that diverged.
    Raises:
        UserError: if no task and method has runs with different values of the field.
    """
    points = []
    for score in scores_in(root, tuple(OFFLINE), column="score", but=field):
        settings = score.members[0].settings
        value = settings.get(field, settings.get(f"config.{field}"))
        if value is not None:
            points += [(*point[:2], float(value), *point[2:]) for point in points_of([score], "scores")]
    values = grouped(points, lambda point: point[:2])
    points = [point for point in points if len({other[2] for other in values[point[:2]]}) > 1]
    if not points:
        sweep = "--methods=xql:batch_size=64,xql:batch_size=1024"
        how = sweep if field == "batch_size" else f"--sweep='{field}=1,2'"
        raise UserError(f"no runs that vary {field}: train some, as reproduce.py {how} does")
    rows = []
    for place, members in grouped(points, lambda point: point[:3]).items():
        end = max(point[4] for point in members)
        ended = [point for point in members if point[4] == end]
        mean, half_width = map(float, mean_and_interval(np.array([point[5] for point in ended])))
        rows.append((*place, mean, half_width, len(ended), float(np.mean([point[6] for point in ended]))))
    return {
        "curves": long_table("task", "method", "value", "seed", "step", "score", "diverged", rows=points),
        "last": long_table(
            "task", "method", "value", "score", "interval", "seeds", "share_diverged", rows=sorted(rows)
        ),
    }


@styled
def draw(tables: Tables, *, field: str) -> Figure:
    """Draws one column per task: last scores, the share of members that diverged, and learning curves.

    Methods are drawn a little apart. An interval needs three seeds. Curves are left out if there is only one
    evaluation step.
    """
    last, curves = tables["last"], tables["curves"]
    tasks, looks = unique(last["task"]), looks_of(last["method"].tolist())
    values = sorted(set(last["value"].tolist()))
    has_curves = len(np.unique(curves["step"])) > 1
    columns = legend_columns(looks)
    heights = [2.6, 0.9 + legend_height(looks, columns)]
    heights += [2.9 + legend_height(map(str, values), 4) + 0.19] * has_curves
    figure = Figure(figsize=(4.6 * len(tasks), 0.4 + sum(heights)))
    grid = figure.subplots(len(heights), len(tasks), squeeze=False, height_ratios=heights)
    for column, task in zip(grid.T, tasks, strict=True):
        scores, shares = column[:2]
        for number, (method, look) in enumerate(looks.items()):
            rows = where(last, task=task, method=method)
            beside = rows["value"] * 1.03 ** (number - (len(looks) - 1) / 2)
            interval = np.where(rows["seeds"] >= LEAST_FOR_BAND, rows["interval"], np.nan)
            scores.errorbar(
                beside,
                rows["score"],
                interval,
                capsize=2,
                elinewidth=0.8,
                marker="o",
                **look,  # type: ignore[arg-type]
            )
            shares.plot(beside, rows["share_diverged"], marker="o", **look)
        scores.set(title=task, ylabel="last score (percent)")
        shares.set(xlabel=field, ylabel="share diverged", ylim=(-0.1, 1.1), yticks=(0, 1))
        for axes in (scores, shares):
            axes.set(xscale="log", xticks=values)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
            axes.xaxis.set_minor_locator(NullLocator())
        shares.sharex(scores)
        scores.tick_params(labelbottom=False)
        legend_below(shares, columns)
        if has_curves:
            first = where(last, task=task)["method"][0]
            column[2].set(ylabel=f"score (percent): {first}", xlabel="updates (steps)")
            for value, color in zip(values, scale(len(values)), strict=True):
                rows = where(curves, task=task, method=first, value=value)
                if not len(rows["step"]):  # another task's value
                    continue
                steps = sorted(set(rows["step"].tolist()))
                means = np.array([[rows["score"][rows["step"] == step].mean() for step in steps]])
                draw_curve(column[2], steps, means, False, color=color, label=short_number(value))
            count_axis(column[2].xaxis)
            legend_below(column[2], 4, field)
    return figure


def _ablation(what: str, field: str) -> PaperFigure:
    return PaperFigure(
        f"last scores and divergence against {what}",
        functools.partial(read, field=field),
        functools.partial(draw, field=field),
    )


FIGURE_8 = _ablation("beta", "beta")
FIGURE_9 = _ablation("the batch size", "batch_size")
