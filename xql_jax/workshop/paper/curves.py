"""Runs that figures show; their learning curves (Figures 3, 7, 10 to 12) and ablations (Figures 8 and 9)."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from xql_jax.errors import UserError
from xql_jax.learners.registry import OFFLINE, method_of
from xql_jax.numerics.statistics import by_seed_and_step, grouped, has_all_seeds, mean_and_interval
from xql_jax.pictures import style
from xql_jax.runs.kinds import FINE_TUNING
from xql_jax.workshop.paper.columns import Tables, long_table, unique, where
from xql_jax.workshop.reports.scores import MethodScore, method_scores, read_runs

LOG = logging.getLogger(__name__)
PANEL = (3.5, 2.9)  # inches, without the legend
OF_RETURNS = " (return)"  # ends the name of a dataset whose scores are returns


class Point(NamedTuple):
    """A number that a figure shows; its fields are the columns of the figure's table."""

    task: str
    method: str
    seed: int
    step: int
    value: float  # finite
    diverged: bool  # whether the member had diverged by then


def scores_in(
    root: Path,
    methods: Sequence[str],
    tasks: Sequence[str] | None = None,
    *,
    file_name: str = "evaluations.csv",
    column: str = "score",
    but: str = "",
) -> list[MethodScore]:
    """Reads the finished runs below a folder that learned these tasks (None: all) by these methods.

    Fine-tuned runs are left out, damaged runs with a warning. Where a score is the return, the dataset's name
    says so.

    UserError if there is no such run, or if two runs have the same seed of a method.

    Args:
        file_name, column: where a run's folder has the numbers that the figure shows.
        but: the setting that the figure shows on an axis, see `method_scores`.
    """
    listing = read_runs([str(root)], file_name, column)
    finished = [run for run in listing.runs if run.status == "finished" and run.kind != FINE_TUNING]
    of_methods = [run for run in finished if method_of(run.method) in methods]
    shown = [run.path for run in of_methods if tasks is None or run.dataset in tasks]
    if not shown:
        there = ", ".join(sorted({f"{run.method} on {run.dataset}" for run in finished})) or "none"
        wanted = " or ".join(methods) + (f" on {' or '.join(tasks)}" if tasks else "")
        raise UserError(f"--runs={root}: needs a finished run of {wanted}; there are: {there}")
    members = [member for member in listing.members if member.run.path in shown]
    scores = method_scores(members, but)
    if cut := len(members) - sum(len(score.members) for score in scores):
        LOG.warning(f"{root}: {cut} of {len(members)} seeds have no numbers of their run's end; left out")
    for run, reason in listing.left_out:
        LOG.warning(f"{root / run}: {reason}; left out")
    return [score if score.is_normalised or column != "score" else _named_return(score) for score in scores]


def _named_return(score: MethodScore) -> MethodScore:
    return dataclasses.replace(score, dataset=f"{score.dataset}{OF_RETURNS}")


def points_of(scores: Sequence[MethodScore], what: str) -> list[Point]:
    """Returns the members' numbers; numbers that are not finite are left out with a warning."""
    points = [
        Point(score.dataset, score.method, member.seed, *numbers)
        for score in scores
        for member in score.members
        for numbers in zip(member.steps, member.values, member.diverged, strict=True)
    ]
    finite = [point for point in points if math.isfinite(point.value)]
    if len(finite) < len(points):
        LOG.warning(f"{len(points) - len(finite)} of {len(points)} {what} are not finite, and left out")
    return finite


def read_curves(
    root: Path, *, methods: Sequence[str], tasks: Sequence[str] | None = None, quantity: str
) -> Tables:
    """Reads learning curves of the "return" or the "score"; UserError if nothing was evaluated.

    Returns:
        `seeds`: each seed's values. `curves`: at each step at which all seeds that go on have a value, see
        `has_all_seeds`, their mean with its 95% interval (Student's t), which is NaN for a single seed, the
        number of seeds, and the number that had diverged.
    """
    points = points_of(scores_in(root, methods, tasks, column=quantity), f"{quantity}s")
    if not points:
        raise UserError(f"--runs={root}: nothing was evaluated in the runs there")
    curves = []
    for place, of_place in grouped(points, lambda point: (point.task, point.method)).items():
        steps, _, values = by_seed_and_step((point.seed, point.step, point.value) for point in of_place)
        at_step = grouped(of_place, lambda point: point.step)
        for step in itertools.compress(steps, has_all_seeds(values)):
            at = at_step[step]
            mean, half_width = mean_and_interval(np.array([point.value for point in at]))
            diverged = sum(point.diverged for point in at)
            curves.append((*place, step, mean, mean - half_width, mean + half_width, len(at), diverged))
    names = ("task", "method", "step", "mean", "low", "high", "seeds", "diverged")
    return {"curves": long_table(*names, rows=curves), "seeds": long_table(*Point._fields, rows=points)}


@style.styled()
def draw_panels(tables: Tables, *, families: Sequence[Sequence[str]], unit: str, quantity: str) -> Figure:
    """Draws one column per task and one row per family of methods. A method looks the same on all tasks."""
    tasks = unique(tables["curves"]["task"])
    rows = []
    for family in families:
        of_task = {}
        for task in tasks:
            there = unique(where(tables["curves"], task=task)["method"])
            of_task[task] = [method for method in there if method_of(method.split()[0]) in family]
        if any(of_task.values()):
            rows.append((of_task, style.looks_of(itertools.chain(*of_task.values()))))
    heights = [PANEL[1] + style.legend_height(looks) for _, looks in rows]
    figure = Figure(figsize=(PANEL[0] * len(tasks), sum(heights)))
    grid = figure.subplots(len(rows), len(tasks), squeeze=False, height_ratios=heights)
    for panels, (of_task, looks) in zip(grid, rows, strict=True):
        for axes, (task, methods) in zip(panels, of_task.items(), strict=True):
            if methods:
                shows = "return (reward units)" if task.endswith(OF_RETURNS) else quantity
                axes.set(title=task, xlabel=unit, ylabel=shows)
                shown = {method: look for method, look in looks.items() if method in methods}
                _draw_panel(axes, tables, task, shown)
            else:
                axes.remove()
    return figure


def _draw_panel(axes: Axes, tables: Tables, task: str, looks: Mapping[str, style.Look]) -> None:
    curves, marked = {}, {}
    for method, look in looks.items():
        of_method = {name: where(table, task=task, method=method) for name, table in tables.items()}
        columns = (of_method["seeds"][name].tolist() for name in ("seed", "step", "value"))
        curves[method] = by_seed_and_step(zip(*columns, strict=True))
        seeds, diverged = (of_method["curves"][name][-1] for name in ("seeds", "diverged"))
        mark = f" ({diverged} of {seeds} diverged)" if diverged else ""
        marked[method] = look | {"label": look["label"] + mark}
    style.draw_curves(axes, curves, marked, True)


def read_ablation(root: Path, *, field: str) -> Tables:
    """Reads the last scores of the offline runs that vary the field; UserError if there are none.

    Returns:
        `last`: by task, method and value of the field the mean of the last scores, the half-width of its 95%
        interval over seeds, and the share of members (one seed with one setting) that diverged.
    """
    by_value: dict[tuple[str, str, float], list[Point]] = {}  # by task, method and value
    for score in scores_in(root, tuple(OFFLINE), but=field):
        settings = score.members[0].settings
        value = settings.get(field, settings.get(f"config.{field}"))
        if value is not None and (points := points_of([score], "scores")):
            by_value.setdefault((score.dataset, score.method, float(value)), []).extend(points)
    values = grouped(by_value, lambda place: place[:2])
    places = [place for of_method in values.values() if len(of_method) > 1 for place in of_method]
    if not places:
        raise UserError(f"no runs that vary {field}: train some, such as --{field}=1 and --{field}=2")
    last = []
    for place in sorted(places):
        end = max(point.step for point in by_value[place])
        ended = [point for point in by_value[place] if point.step == end]
        share = float(np.mean([point.diverged for point in ended]))
        score_and_interval = mean_and_interval(np.array([point.value for point in ended]))
        last.append((*place, *score_and_interval, len(ended), share))
    columns = ("task", "method", "value", "score", "interval", "seeds", "share_diverged")
    return {"last": long_table(*columns, rows=last)}


@style.styled()
def draw_ablation(tables: Tables, *, field: str) -> Figure:
    """Draws one column per task: last scores, and the share of members that diverged.

    Methods are drawn a little apart. An interval needs three seeds.
    """
    last = tables["last"]
    tasks, looks = unique(last["task"]), style.looks_of(last["method"].tolist())
    values = sorted(set(last["value"].tolist()))
    heights = [2.6, 0.9 + style.legend_height(looks)]
    figure = Figure(figsize=(4.6 * len(tasks), 0.4 + sum(heights)))
    grid = figure.subplots(2, len(tasks), squeeze=False, height_ratios=heights)
    for (scores, shares), task in zip(grid.T, tasks, strict=True):
        for number, (method, look) in enumerate(looks.items()):
            rows = where(last, task=task, method=method)
            beside = rows["value"] * 1.03 ** (number - (len(looks) - 1) / 2)
            interval = np.where(rows["seeds"] >= style.LEAST_FOR_BAND, rows["interval"], np.nan)
            bars = {"capsize": 2, "elinewidth": 0.8, "marker": "o", **look}
            scores.errorbar(beside, rows["score"], interval, **bars)
            shares.plot(beside, rows["share_diverged"], marker="o", **look)
        shows = "last return (reward units)" if task.endswith(OF_RETURNS) else "last score (percent)"
        scores.set(title=task, ylabel=shows)
        shares.set(xlabel=field, ylabel="share diverged", ylim=(-0.1, 1.1), yticks=(0, 1))
        for axes in (scores, shares):
            axes.set(xscale="log", xticks=values)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        shares.sharex(scores)
        scores.tick_params(labelbottom=False)
        style.legend_below(shares)
    return figure
