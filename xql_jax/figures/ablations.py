"""Figures 8 and 9: last scores and diverged members against what was varied, beta or the batch size."""

import collections
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from xql_jax.errors import UserError
from xql_jax.evaluation.scores import mean_and_interval
from xql_jax.figures.paper_figure import RunsFigure, Table, long_table, where
from xql_jax.figures.recorded_runs import LARGEST, RunGroup, group_runs
from xql_jax.learners.registry import OFFLINE
from xql_jax.logs.csv_reader import Row
from xql_jax.reports.palette import LINES
from xql_jax.runs.record import RunRecord

COLUMNS = ("task", "method", "value", "seed", "step", "score", "diverged")


def read(groups: Sequence[RunGroup], *, field: str) -> dict[str, Table]:
    """Reads every evaluation of the runs that have the field, swept or set.

    Returns:
        `curves`: a row an evaluation of a member, with the field's value and whether it had diverged by then.
        `last`: by task, method and value the last scores' mean, the half-width of its 95% interval over
        seeds, and the share of the members that diverged.
    Raises:
        UserError: if the runs of a task and method all have the same value: nothing was varied.
    """
    runs = (run for group in groups for run in group.runs)
    points = [
        point
        for group in group_runs(runs, but=(field, f"config.{field}", "sweep"))
        for run in group.runs
        for point in _points(run, group.method, field)
    ]
    for place, count in collections.Counter(point[:5] for point in points).items():
        if count > 1:
            raise UserError(f"{place[1]} on {place[0]} with {field}={place[2]:g} has seed {place[3]} twice")
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


def draw(tables: Mapping[str, Table], *, field: str) -> Figure:
    """A column a task: last scores, below them the share of members that diverged, and learning curves."""
    last, curves = tables["last"], tables["curves"]
    tasks, methods = (list(dict.fromkeys(last[name].tolist())) for name in ("task", "method"))
    values = sorted(set(last["value"].tolist()))
    figure = Figure(figsize=(0.6 + 4.6 * len(tasks), 8.5), layout="constrained")
    grid = figure.subplots(3, len(tasks), squeeze=False, height_ratios=(3, 1, 3))
    for (scores, shares, paths), task in zip(grid.T, tasks, strict=True):
        for number, method in enumerate(methods):
            rows = where(last, task=task, method=method)
            color = LINES[number % len(LINES)]
            style = {"color": color, "label": method, "marker": "o"}
            scores.errorbar(rows["value"], rows["score"], np.nan_to_num(rows["interval"]), capsize=2, **style)
            shares.plot(rows["value"], rows["share_diverged"], **style)
        for number, value in enumerate(values):
            rows = where(curves, task=task, method=methods[0], value=value)
            steps = np.unique(rows["step"])
            means = [rows["score"][rows["step"] == step].mean() for step in steps]
            shade = 0.15 + 0.75 * number / max(len(values) - 1, 1)
            paths.plot(steps, means, marker=".", color=(1 - shade, 0.35, shade), label=f"{field}={value:g}")
        scores.set(title=task, xscale="log", xlabel=field, ylabel="last score (percent)")
        shares.set(xscale="log", xlabel=field, ylabel="share diverged", ylim=(-0.05, 1.05))
        paths.set(xlabel="updates (steps)", ylabel=f"score of {methods[0]} (percent)")
        for axes in (scores, shares, paths):
            axes.grid(alpha=0.3)
        scores.legend(fontsize="small")
        paths.legend(fontsize="small")
    return figure


def _points(run: RunRecord, method: str, field: str) -> list[tuple]:
    rows = run.rows(run.files.evaluations)
    return [
        (
            run.name,
            _with_sweep(method, row, field),
            value,
            row.seed,
            row.step,
            row.results["score"],
            _has_diverged(row),
        )
        for row in rows
        if (value := _value(run, row, field)) is not None and abs(row.results["score"]) <= LARGEST
    ]


def _value(run: RunRecord, row: Row, field: str) -> float | None:
    """The field's value of a row's member; None if the run has none."""
    value = dict(row.setting).get(field, run.settings.get(field, run.settings.get(f"config.{field}")))
    return None if value is None else float(value)


def _with_sweep(method: str, row: Row, field: str) -> str:
    """The method, and what else was swept."""
    others = (f"{name}={value:g}" for name, value in row.setting if name != field)
    return " ".join((method, *others))


def _has_diverged(row: Row) -> bool:
    return not math.isnan(row.results["diverged_at"])


def _figure(what: str, field: str) -> RunsFigure:
    return RunsFigure(
        what, tuple(OFFLINE), functools.partial(read, field=field), functools.partial(draw, field=field)
    )


FIGURE_8 = _figure("last scores and divergence against beta", "beta")
FIGURE_9 = _figure("last scores and divergence against the batch size", "batch_size")
