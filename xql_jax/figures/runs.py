"""Runs that figures show, and the figures of their learning curves (3, 7 and 10 to 12)."""

import collections
import functools
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xql_jax.errors import UserError
from xql_jax.figures.tables import PaperFigure, Table, Tables, long_table, unique, where
from xql_jax.learners.registry import OFFLINE, ONLINE
from xql_jax.reports.results import FINE_TUNED, Score, grouped, scores_of
from xql_jax.reports.style import (
    LEAST_FOR_BAND,
    count_axis,
    draw_curve,
    fit_height,
    legend_below,
    legend_columns,
    legend_height,
    looks_of,
    styled,
)
from xql_jax.rollout.scores import mean_and_interval
from xql_jax.runs.reporting import read_runs
from xql_jax.tasks import TASKS

LOG = logging.getLogger(__name__)
MOST_LINES = 12  # largest number of methods in a panel; the best are shown
PANEL = (3.5, 2.9)  # inches, without the legend
POINT_COLUMNS = ("task", "method", "seed", "step", "value", "diverged")


def scores_in(
    root: Path,
    algorithms: Sequence[str],
    tasks: Sequence[str] | None = None,
    *,
    file_name: str = "evaluations.csv",
    column: str,
    but: str = "",
) -> list[Score]:
    """Reads the finished runs below a folder that learned these tasks (None: all) by these algorithms.

    Fine-tuned runs are left out; damaged runs, and seeds that another run has trained with the same settings,
    are left out with a warning.

    Args:
        file_name: of the file in a run's folder.
        column: of the numbers that the figure shows.
        but: the setting that the figure shows on an axis, see `scores_of`.
    Raises:
        UserError: if there is no such folder or run.
    """
    if not root.is_dir():
        raise UserError(f"--runs={root}: no such folder")
    results = read_runs([str(root)], file_name, column)
    finished = [run for run in results.runs if run.status == "finished" and run.phase != FINE_TUNED]
    shown = [
        run.path
        for run in finished
        if run.algorithm in algorithms and (tasks is None or run.dataset in tasks)
    ]
    if not shown:
        there = ", ".join(sorted({f"{run.algorithm} on {run.dataset}" for run in finished})) or "none"
        named = algorithms if len(algorithms) < 10 else ["train_offline.py"]
        wanted = " or ".join(named) + (f" on {' or '.join(tasks)}" if tasks else "")
        raise UserError(f"--runs={root}: needs a finished run of {wanted}; there are: {there}")
    scores, doubled = scores_of([member for member in results.members if member.run.path in shown], but)
    for run, reason in (*results.left_out, *doubled):
        LOG.warning(f"{root / run}: {reason}; left out")
    return scores


def points_of(scores: Sequence[Score], what: str) -> list[tuple]:
    """Returns rows of `POINT_COLUMNS`; numbers that are not finite are left out with a warning."""
    points = [
        (score.dataset, score.method, member.seed, *numbers)
        for score in scores
        for member in score.members
        for numbers in zip(member.steps, member.values, member.diverged, strict=True)
    ]
    finite = [point for point in points if math.isfinite(point[4])]
    if len(finite) < len(points):
        LOG.warning(f"{len(points) - len(finite)} of {len(points)} {what} are not finite, and left out")
    return finite


def read_curves(
    root: Path, *, algorithms: Sequence[str], tasks: Sequence[str] | None = None, quantity: str
) -> Tables:
    """Reads learning curves.

    Args:
        quantity: the column that is shown, "return" or "score".
    Returns:
        `seeds`: each seed's values. `curves`: at each step their mean with its 95% interval (Student's t),
        which is NaN for a single seed, the number of seeds, and the number that had diverged. `restarts`: how
        often the method's runs have initialised their networks again.
    Raises:
        UserError: if nothing was evaluated.
    """
    scores = scores_in(root, algorithms, tasks, column=quantity)
    points = points_of(scores, f"{quantity}s")
    if not points:
        raise UserError(f"--runs={root}: nothing was evaluated in the runs there")
    order = {place: number for number, place in enumerate(dict.fromkeys(point[:2] for point in points))}
    at = grouped(points, lambda point: (*point[:2], point[3]))
    curves = []
    # By step: a seed may have been evaluated at steps at which the seed before it was not.
    for place in sorted(at, key=lambda place: (order[place[:2]], place[2])):
        mean, half_width = map(float, mean_and_interval(np.array([point[4] for point in at[place]])))
        diverged = sum(point[5] for point in at[place])
        curves.append((*place, mean, mean - half_width, mean + half_width, len(at[place]), diverged))
    restarts: collections.Counter[tuple[str, str]] = collections.Counter()
    for score in scores:
        runs = {(member.run.path, member.swept): member.run for member in score.members}
        for (_, swept), run in runs.items():
            names = (name.partition(", ")[2] for name in run.restarted)  # such as "seed 3, beta=0.5"
            restarts[score.dataset, score.method] += sum(name == swept for name in names)
    return {
        "curves": long_table(
            "task", "method", "step", "mean", "low", "high", "seeds", "diverged", rows=curves
        ),
        "seeds": long_table(*POINT_COLUMNS, rows=points),
        "restarts": long_table(
            "task", "method", "restarts", rows=[(*place, restarts[place]) for place in order]
        ),
    }


@styled
def draw_curves(tables: Tables, *, families: Sequence[Sequence[str]], unit: str, quantity: str) -> Figure:
    """Draws one column per task and one row per family of algorithms; with one task, all panels in a row.

    An axis spans the seeds' values; a wider band is cut off. If a task has too many methods, only the best
    are drawn. A method looks the same on all tasks.
    """
    curves, tasks = tables["curves"], unique(tables["curves"]["task"])
    drawn = [(family, _best(curves, family)) for family in families]
    rows = [(family, looks_of(methods)) for family, methods in drawn if methods]
    shape = (len(rows), len(tasks)) if len(tasks) > 1 else (1, len(rows))
    legends = [legend_height(looks, legend_columns(looks, PANEL[0] - 0.6)) for _, looks in rows]
    heights = [PANEL[1] + legend for legend in (legends if len(tasks) > 1 else [max(legends)])]
    figure = Figure(figsize=(PANEL[0] * shape[1], sum(heights)))
    grid = figure.subplots(*shape, squeeze=False, height_ratios=heights).reshape(len(rows), len(tasks))
    for panels, (family, looks) in zip(grid, rows, strict=True):
        for axes, task in zip(panels, tasks, strict=True):
            known = [m for m in unique(where(curves, task=task)["method"]) if m.split()[0] in family]
            if not known:
                axes.remove()
                continue
            few = f": the best {MOST_LINES} of {len(known)}" if len(known) > MOST_LINES else ""
            axes.set(title=f"{task}{few}", xlabel=unit, ylabel=quantity)
            best = _best(where(curves, task=task), family)
            shown = {method: look for method, look in looks.items() if method in best}
            _draw_panel(axes, {name: where(table, task=task) for name, table in tables.items()}, shown)
    return figure


def _best(curves: Table, family: Sequence[str]) -> list[str]:
    """Returns the methods of the family to draw: on each task, the best by their last mean."""
    methods: list[str] = []
    for task in unique(curves["task"]):
        ranked = [method for method, *_ in _ranked(where(curves, task=task)) if method.split()[0] in family]
        methods += ranked[:MOST_LINES]
    return methods


def _draw_panel(axes: Axes, tables: Tables, looks: Mapping[str, Mapping[str, Any]]) -> None:
    labels = []
    for method, look in looks.items():
        curve, seeds, restarts = (
            where(tables[name], method=method) for name in ("curves", "seeds", "restarts")
        )
        marks = [f"{curve['diverged'][-1]} of {curve['seeds'][-1]} diverged"] if curve["diverged"][-1] else []
        marks += [f"restarts: {count}" for count in restarts["restarts"] if count]
        labels.append(" ".join([look["label"], *(f"({mark})" for mark in marks)]))
        steps, members = curve["step"].tolist(), unique(seeds["seed"])
        values = np.full((len(members), len(steps)), np.nan)
        for seed, step, value in zip(seeds["seed"], seeds["step"], seeds["value"], strict=True):
            values[members.index(seed), steps.index(step)] = value
        draw_curve(axes, steps, values, True, **{**look, "label": labels[-1]})
    fit_height(axes)
    count_axis(axes.xaxis)
    legend_below(axes, legend_columns(labels, PANEL[0] - 0.6))


def _ranked(curves: Table) -> list[tuple[str, float, float, int]]:
    """Returns (method, last mean, half-width of its interval, number of seeds) on a task, the best first."""
    last = []
    for method in unique(curves["method"]):
        curve = where(curves, method=method)
        end = curve["step"].argmax()
        mean, high = float(curve["mean"][end]), float(curve["high"][end])
        last.append((method, mean, high - mean, int(curve["seeds"][end])))
    return sorted(last, key=lambda row: -row[1])


def ranking(tables: Tables) -> list[str]:
    """Returns lines of text that rank the methods on each task by their last mean."""
    lines = []
    for task in unique(tables["curves"]["task"]):
        rows = _ranked(where(tables["curves"], task=task))
        lines.append(f"last on {task}, mean over seeds:")
        width = max(len(method) for method, *_ in rows)
        for rank, (method, mean, half_width, seeds) in enumerate(rows, start=1):
            interval = f" ± {half_width:.1f}" if seeds >= LEAST_FOR_BAND else ""
            of_seeds = f"({seeds} seed{'s' * (seeds > 1)})"
            lines.append(f"{rank:>4}. {method:<{width}} {mean:8.1f}{interval} {of_seeds}")
    return lines


def _offline_curves(what: str, algorithms: Sequence[str], suites: Sequence[str] = ()) -> PaperFigure:
    """Returns the figure of offline scores of these algorithms on these suites' tasks (none: all suites)."""
    tasks = tuple(task.name for task in TASKS.values() if task.suite in suites) if suites else None
    return PaperFigure(
        f"{what} over training, mean over seeds with 95% interval",
        functools.partial(read_curves, algorithms=tuple(algorithms), tasks=tasks, quantity="score"),
        functools.partial(
            draw_curves,
            families=(tuple(algorithms),),
            unit="updates (steps)",
            quantity="normalised score (percent)",
        ),
        ranking,
    )


FIGURE_3 = PaperFigure(
    "online returns over training, mean over seeds with 95% interval",
    functools.partial(read_curves, algorithms=tuple(ONLINE), quantity="return"),
    functools.partial(
        draw_curves,
        families=(("sac", "xsac"), ("td3", "xtd3", "td3_dq", "xtd3_dq")),
        unit="steps of the environment",
        quantity="return (reward units)",
    ),
    ranking,
)
FIGURE_7 = _offline_curves("offline scores", tuple(OFFLINE))
FIGURE_10 = _offline_curves("XQL's scores on Gym locomotion, its settings apart,", ["xql"], ["locomotion"])
FIGURE_11 = _offline_curves("XQL's scores on AntMaze, its settings apart,", ["xql"], ["antmaze"])
FIGURE_12 = _offline_curves("XQL's scores on Franka Kitchen, its settings apart,", ["xql"], ["kitchen"])
