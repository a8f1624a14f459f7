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


def draw(
    tables: Mapping[str, Table], *, families: Sequence[Sequence[str]], unit: str, quantity: str
) -> Figure:
    """A column a task, a row a family of algorithms; seeds thinly.

    An axis is as high as its seeds go: the interval over two or three is wider.
    """
    curves, seeds = tables["curves"], tables["seeds"]
    tasks = list(dict.fromkeys(curves["task"].tolist()))
    methods = [
        [method for method in sorted(set(curves["method"].tolist())) if method.split()[0] in family]
        for family in families
    ]
    rows = [family for family in methods if family]
    figure = Figure(figsize=(0.6 + 4.4 * len(tasks), 0.4 + 3.6 * len(rows)), layout="constrained")
    for panels, family in zip(figure.subplots(len(rows), len(tasks), squeeze=False), rows, strict=True):
        for axes, task in zip(panels, tasks, strict=True):
            shown = [method for method in family if method in where(curves, task=task)["method"]]
            if not shown:
                axes.remove()
                continue
            extent = []
            for method in shown:
                number = family.index(method)
                color, style = LINES[number % len(LINES)], STYLES[number // len(LINES) % len(STYLES)]
                curve = where(curves, task=task, method=method)
                axes.plot(curve["step"], curve["mean"], color=color, linestyle=style, label=method)
                axes.fill_between(
                    curve["step"], curve["low"], curve["high"], color=color, alpha=0.12, linewidth=0
                )
                of_method = where(seeds, task=task, method=method)
                *_, values = of_method.values()
                extent += [values.min(), values.max()]
                for seed in np.unique(of_method["seed"]):
                    steps, values = list(where(of_method, seed=seed).values())[-2:]
                    axes.plot(steps, values, color=color, linewidth=0.5, alpha=0.7)
            margin = 0.05 * max(max(extent) - min(extent), 1e-9)
            axes.set(
                title=task,
                xlabel=unit,
                ylabel=quantity,
                ylim=(min(extent) - margin, max(extent) + margin),
            )
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small", loc="lower right")
    return figure


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
FIGURE_7 = RunsFigure(
    "offline scores over training, mean over seeds with 95% interval",
    tuple(OFFLINE),
    functools.partial(read, quantity="score"),
    functools.partial(
        draw, families=(tuple(OFFLINE),), unit="updates (steps)", quantity="normalised score (percent)"
    ),
)
