"""Figures 3, 7 and 10 to 12: learning curves of methods, the mean over seeds with its 95% interval."""

import collections
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xql_jax.errors import UserError
from xql_jax.evaluation.scores import mean_and_interval
from xql_jax.figures.paper_figure import RunsFigure, Table, long_table, where
from xql_jax.figures.recorded_runs import Point, RunPart, points_of, read_parts
from xql_jax.learners.registry import OFFLINE, ONLINE
from xql_jax.reports.line_looks import MOST_LINES, Looks, looks_of
from xql_jax.reports.plots import limits
from xql_jax.reports.style import (
    LEAST_FOR_BAND,
    count_axis,
    dots,
    legend_below,
    styled,
)
from xql_jax.runs.load import SavedRun
from xql_jax.tasks import TASKS

TABLES = ("curves", "seeds", "restarts")
CURVE_COLUMNS = ("task", "method", "step", "mean", "low", "high", "seeds", "diverged")
PANEL = (3.5, 2.9)  # inches, without the legend


def read(runs: Sequence[SavedRun], *, quantity: str) -> dict[str, Table]:
    """Reads `evaluations.csv` of each run.

    Args:
        quantity: the column that is shown, "return" or "score".
    Returns:
        `seeds`: each seed's values. `curves`: at each step their mean with its 95% interval (Student's t),
        which is NaN for a single seed, the number of seeds, and the number that had diverged. `restarts`: how
        often the method's runs have initialised their networks again.
    Raises:
        UserError: if nothing was evaluated.
    """
    parts = read_parts(runs, "evaluations.csv", quantity, f"{quantity}s")
    points = [point for part in parts for point in points_of(part, quantity)]
    if not points:
        raise UserError(f"nothing was evaluated in {runs[0].path}, nor in others like it")
    at: dict[tuple[str, str, int], list[Point]] = {}
    for point in points:
        at.setdefault((point.task, point.method, point.step), []).append(point)
    curves = []
    order = {method: number for number, method in enumerate(dict.fromkeys(place[:2] for place in at))}
    # By step: a seed may have been evaluated at steps at which the seed before it was not.
    for place, of_seeds in sorted(at.items(), key=lambda item: (order[item[0][:2]], item[0][2])):
        mean, half_width = map(float, mean_and_interval(np.array([point.value for point in of_seeds])))
        diverged = sum(point.diverged for point in of_seeds)
        curves.append((*place, mean, mean - half_width, mean + half_width, len(of_seeds), diverged))
    restarts: collections.Counter[tuple[str, str]] = collections.Counter()
    for part in parts:
        restarts[part.run.name, part.method] += _restarts(part)
    return {
        "curves": long_table(*CURVE_COLUMNS, rows=curves),
        "seeds": long_table(*Point._fields, rows=points),
        "restarts": long_table(
            "task",
            "method",
            "restarts",
            rows=[(*one, restarts[one]) for one in dict.fromkeys(p[:2] for p in at)],
        ),
    }


def _restarts(part: RunPart) -> int:
    """Returns how often members of the part were restarted; 0 if the run's summary does not say."""
    restarts = part.run.summary.get("restarts")
    members = (
        restart.get("member", "").partition(", ")  # such as "seed 3, beta=0.5"
        for restart in (restarts if isinstance(restarts, list) else [])
    )
    return sum(swept == part.swept for _, _, swept in members)


@styled
def draw(
    tables: Mapping[str, Table], *, families: Sequence[Sequence[str]], unit: str, quantity: str
) -> Figure:
    """Draws one column per task and one row per family of algorithms; with one task, all panels in a row.

    Single seeds are thin lines, and from three seeds on there is a band for the interval. An axis spans the
    seeds' values; a wider band is cut off. If a task has too many methods, only the best are drawn.
    """
    tasks = list(dict.fromkeys(tables["curves"]["task"].tolist()))
    drawn = [(family, _best(tables["curves"], family)) for family in families]
    shown = [(family, looks_of(methods)) for family, methods in drawn if methods]
    rows = [looks for _, looks in shown]
    shape = (len(rows), len(tasks)) if len(tasks) > 1 else (1, len(rows))
    legends = [looks.height for looks in rows]
    heights = [PANEL[1] + legend for legend in (legends if len(tasks) > 1 else [max(legends)])]
    figure = Figure(figsize=(PANEL[0] * shape[1], sum(heights)))
    grid = figure.subplots(*shape, squeeze=False, height_ratios=heights).reshape(len(rows), len(tasks))
    for panels, (family, looks) in zip(grid, shown, strict=True):
        for axes, task in zip(panels, tasks, strict=True):
            of_task = {name: where(table, task=task) for name, table in tables.items()}
            known = {method for method in of_task["curves"]["method"] if method.split()[0] in family}
            if known:
                few = f": the best {MOST_LINES} of {len(known)}" if len(known) > MOST_LINES else ""
                best = np.isin(of_task["curves"]["method"], _best(of_task["curves"], family))
                of_task["curves"] = {name: column[best] for name, column in of_task["curves"].items()}
                axes.set(title=f"{task}{few}", xlabel=unit, ylabel=quantity)
                _draw_panel(axes, of_task, looks)
            else:
                axes.remove()
    return figure


def _best(curves: Table, family: Sequence[str]) -> list[str]:
    """Returns the methods of the family to draw: on each task, the best by their last mean."""
    methods: list[str] = []
    for task in dict.fromkeys(curves["task"].tolist()):
        ranked = _ranked(where(curves, task=task))
        methods += [method for method, *_ in ranked if method.split()[0] in family][:MOST_LINES]
    return methods


def _draw_panel(axes: Axes, tables: Mapping[str, Table], looks: Looks) -> None:
    """Draws the methods of a family on one task. A method looks the same on all tasks."""
    extent: list[float] = []
    columns = looks.columns
    steps = np.unique(tables["curves"]["step"])
    is_one_step = len(steps) == 1  # methods are drawn side by side, as single points
    for number, (method, look) in enumerate(looks.by_name.items()):
        curve, seeds, restarts = (where(tables[name], method=method) for name in TABLES)
        if not len(curve["step"]):
            continue
        marks = [f"{curve['diverged'][-1]} of {curve['seeds'][-1]} diverged"] if curve["diverged"][-1] else []
        marks += [f"restarts: {count}" for count in restarts["restarts"] if count]
        label = " ".join([look.label, *(f"({mark})" for mark in marks)])
        columns = 1 if marks else columns
        style: dict[str, Any] = {"color": look.color, "marker": dots(len(curve["step"]))}
        at = [number] if is_one_step else curve["step"]
        axes.plot(at, curve["mean"], linestyle=look.linestyle, label=label, zorder=3, **style)
        band = curve["seeds"] >= LEAST_FOR_BAND
        if band.any() and not is_one_step:
            ends = curve["step"], curve["low"], curve["high"]
            axes.fill_between(*ends, where=band, color=look.color, alpha=0.12, linewidth=0)
        members = np.unique(seeds["seed"])
        for seed in members if len(members) > 1 else ():
            of_seed = where(seeds, seed=seed)
            at = [number] if is_one_step else of_seed["step"]
            axes.plot(at, of_seed["value"], linewidth=0.5, alpha=0.7, markersize=2, **style)
        extent += seeds["value"].tolist()
    axes.set(ylim=limits(extent))
    if is_one_step:
        axes.set(xticks=[], xlabel=f"{axes.get_xlabel()}: {steps[0]:,}")
    else:
        count_axis(axes.xaxis)
    legend_below(axes, columns, looks.title)


def _ranked(curves: Table) -> list[tuple[str, float, float, int]]:
    """Returns (method, last mean, half-width of its interval, number of seeds) on a task, the best first."""
    last = []
    for method in dict.fromkeys(curves["method"].tolist()):
        curve = where(curves, method=method)
        end = curve["step"].argmax()
        mean, high = float(curve["mean"][end]), float(curve["high"][end])
        last.append((method, mean, high - mean, int(curve["seeds"][end])))
    return sorted(last, key=lambda row: -row[1])


def ranking(tables: Mapping[str, Table]) -> list[str]:
    """Returns lines of text that rank the methods on each task by their last mean."""
    lines = []
    curves = tables["curves"]
    for task in dict.fromkeys(curves["task"].tolist()):
        rows = _ranked(where(curves, task=task))
        lines.append(f"last on {task}, mean over seeds:")
        width = max(len(method) for method, *_ in rows)
        for rank, (method, mean, half_width, seeds) in enumerate(rows, start=1):
            interval = f" ± {half_width:.1f}" if seeds >= LEAST_FOR_BAND else ""
            lines.append(
                f"{rank:>4}. {method:<{width}} {mean:8.1f}{interval} ({seeds} seed{'s' * (seeds > 1)})"
            )
    return lines


def offline_curves(what: str, algorithms: Sequence[str], suites: Sequence[str]) -> RunsFigure:
    """Returns the figure of offline scores of these algorithms on these suites' tasks (none: all suites)."""
    tasks = tuple(task.name for task in TASKS.values() if task.suite in suites) if suites else None
    return RunsFigure(
        f"{what} over training, mean over seeds with 95% interval",
        tuple(algorithms),
        functools.partial(read, quantity="score"),
        functools.partial(
            draw, families=(tuple(algorithms),), unit="updates (steps)", quantity="normalised score (percent)"
        ),
        tasks,
        ranking,
    )


FIGURE_3 = RunsFigure(
    "online returns over training, mean over seeds with 95% interval",
    tuple(ONLINE),
    functools.partial(read, quantity="return"),
    functools.partial(
        draw,
        families=(("sac", "xsac"), ("td3", "xtd3", "td3_dq", "xtd3_dq")),
        unit="steps of the environment",
        quantity="return (reward units)",
    ),
    describe=ranking,
)
FIGURE_7 = offline_curves("offline scores", tuple(OFFLINE), ())
FIGURE_10 = offline_curves("XQL's scores on Gym locomotion, its settings apart,", ("xql",), ("locomotion",))
FIGURE_11 = offline_curves("XQL's scores on AntMaze, its settings apart,", ("xql",), ("antmaze",))
FIGURE_12 = offline_curves("XQL's scores on Franka Kitchen, its settings apart,", ("xql",), ("kitchen",))
