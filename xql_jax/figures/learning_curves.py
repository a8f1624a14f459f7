"""Figures 3, 7 and 10 to 12: methods over training, the mean over seeds with its 95% interval."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xql_jax.errors import UserError
from xql_jax.evaluation.scores import mean_and_interval
from xql_jax.figures.paper_figure import RunsFigure, Table, long_table, where
from xql_jax.figures.recorded_runs import Point, RunGroup, read_points
from xql_jax.learners.registry import OFFLINE, ONLINE
from xql_jax.reports.palette import LINES
from xql_jax.runs.record import RunRecord
from xql_jax.tasks import TASKS

TABLES = ("curves", "seeds", "restarts")
CURVE_COLUMNS = ("task", "method", "step", "mean", "low", "high", "seeds", "diverged")
STYLES = ("-", "--", "-.", ":")  # where there are more methods than colours


def read(groups: Sequence[RunGroup], *, quantity: str) -> dict[str, Table]:
    """Reads `evaluations.csv` of each run.

    Args:
        quantity: the column that is shown, "return" or "score".
    Returns:
        `seeds`: each seed's values. `curves`: their mean at each step and Student's 95% interval of it, which
        is NaN for a single seed; how many seeds there are, and had diverged; and how often the networks of
        the method's runs were begun anew in all.
    Raises:
        UserError: if nothing was evaluated, or as `read_points`.
    """
    points = read_points(groups, "evaluations.csv", quantity, f"{quantity}s")
    if not points:
        raise UserError(f"nothing was evaluated in {groups[0].runs[0].path}, nor in others like it")
    at: dict[tuple[str, str, int], list[Point]] = {}
    for point in points:
        at.setdefault((point.task, point.method, point.step), []).append(point)
    curves = []
    for place, of_seeds in at.items():
        mean, half_width = map(float, mean_and_interval(np.array([point.value for point in of_seeds])))
        diverged = sum(point.diverged for point in of_seeds)
        curves.append((*place, mean, mean - half_width, mean + half_width, len(of_seeds), diverged))
    restarts = [(group.task, group.method, sum(map(_restarts, group.runs))) for group in groups]
    return {
        "curves": long_table(*CURVE_COLUMNS, rows=curves),
        "seeds": long_table(*Point._fields, rows=points),
        "restarts": long_table("task", "method", "restarts", rows=restarts),
    }


def _restarts(run: RunRecord) -> int:
    """How often its networks were begun anew; 0 if its summary, damaged, does not say."""
    restarts = run.summary.get("restarts")
    return len(restarts) if isinstance(restarts, list) else 0


def draw(
    tables: Mapping[str, Table], *, families: Sequence[Sequence[str]], unit: str, quantity: str
) -> Figure:
    """A column a task, a row a family of algorithms, side by side if there is one task; seeds thinly.

    An axis is as high as its seeds go: the interval over two or three is wider.
    """
    tasks = list(dict.fromkeys(tables["curves"]["task"].tolist()))
    known = sorted(set(tables["curves"]["method"].tolist()))
    methods = [[method for method in known if method.split()[0] in family] for family in families]
    rows = [family for family in methods if family]
    shape = (len(rows), len(tasks)) if len(tasks) > 1 else (1, len(rows))
    figure = Figure(figsize=(0.6 + 4.4 * shape[1], 0.4 + 3.6 * shape[0]), layout="constrained")
    grid = figure.subplots(*shape, squeeze=False).reshape(len(rows), len(tasks))
    for panels, family in zip(grid, rows, strict=True):
        for axes, task in zip(panels, tasks, strict=True):
            of_task = {name: where(table, task=task) for name, table in tables.items()}
            if np.isin(of_task["curves"]["method"], family).any():
                _draw_panel(axes, of_task, family)
                axes.set(title=task, xlabel=unit, ylabel=quantity)
            else:
                axes.remove()
    return figure


def _draw_panel(axes: Axes, tables: Mapping[str, Table], family: Sequence[str]) -> None:
    """The methods of a family on one task; a method has its colour on all tasks."""
    extent: list[float] = []
    for number, method in enumerate(family):
        curve, seeds, restarts = (where(tables[name], method=method) for name in TABLES)
        if not len(curve["step"]):
            continue
        marks = [f"{curve['diverged'][-1]} of {curve['seeds'][-1]} diverged"] if curve["diverged"][-1] else []
        marks += [f"restarts: {count}" for count in restarts["restarts"] if count]
        label = " ".join([method, *(f"({mark})" for mark in marks)])
        color, style = LINES[number % len(LINES)], STYLES[number // len(LINES) % len(STYLES)]
        axes.plot(curve["step"], curve["mean"], color=color, linestyle=style, label=label)
        axes.fill_between(curve["step"], curve["low"], curve["high"], color=color, alpha=0.12, linewidth=0)
        for seed in np.unique(seeds["seed"]):
            of_seed = where(seeds, seed=seed)
            axes.plot(of_seed["step"], of_seed["value"], color=color, linewidth=0.5, alpha=0.7)
        extent += [seeds["value"].min(), seeds["value"].max()]
    margin = 0.05 * max(max(extent) - min(extent), 1e-9)
    axes.set(ylim=(min(extent) - margin, max(extent) + margin))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")


def offline_curves(what: str, algorithms: Sequence[str], suites: Sequence[str]) -> RunsFigure:
    """Returns the figure of offline scores of these algorithms on the tasks of these suites; none: on all."""
    tasks = tuple(task.name for task in TASKS.values() if task.suite in suites) if suites else None
    return RunsFigure(
        f"{what} over training, mean over seeds with 95% interval",
        tuple(algorithms),
        functools.partial(read, quantity="score"),
        functools.partial(
            draw, families=(tuple(algorithms),), unit="updates (steps)", quantity="normalised score (percent)"
        ),
        tasks,
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
)
FIGURE_7 = offline_curves("offline scores", tuple(OFFLINE), ())
FIGURE_10 = offline_curves("XQL's scores on Gym locomotion, its settings apart,", ("xql",), ("locomotion",))
FIGURE_11 = offline_curves("XQL's scores on AntMaze, its settings apart,", ("xql",), ("antmaze",))
FIGURE_12 = offline_curves("XQL's scores on Franka Kitchen, its settings apart,", ("xql",), ("kitchen",))
