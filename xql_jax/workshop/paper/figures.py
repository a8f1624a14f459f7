"""The paper's figures by their names on the command line, and how they are written."""

import functools
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from xql_jax.files.outputs import write_output
from xql_jax.learners.registry import OFFLINE
from xql_jax.pictures.style import render
from xql_jax.suites.tasks import SUITES
from xql_jax.workshop.paper import bellman_errors, curves, maze, regression
from xql_jax.workshop.paper.columns import Tables
from xql_jax.workshop.reports.score_table import csv_table


class PaperFigure(NamedTuple):
    """A figure of the paper: tables of numbers, and a picture drawn from these tables only."""

    what: str  # a short description
    compute: Callable[..., Tables]  # from a seed; figures of runs from the folder that holds the runs
    draw: Callable[[Tables], Figure]


def write_figure(
    name: str, folder: Path, tables: Tables, picture: Figure, formats: Collection[str]
) -> list[Path]:
    """Writes figure_NAME.FORMAT in each of these formats, and figure_NAME_TABLE.csv; returns their paths."""
    contents = {f"figure_{name}.{kind}": render(picture, kind) for kind in formats}
    for table_name, table in tables.items():
        rows = [
            [f"{value:.9g}" if isinstance(value, float) else value for value in row]
            for row in zip(*(column.tolist() for column in table.values()), strict=True)
        ]
        contents[f"figure_{name}_{table_name}.csv"] = csv_table([table, *rows]).encode()
    for file_name, content in contents.items():
        write_output("output", folder / file_name, content)
    return [folder / file_name for file_name in contents]


def _curves(
    what: str,
    families: Sequence[Sequence[str]],
    suite: str | None = None,
    column: str = "score",
    unit: str = "updates (steps)",
    quantity: str = "normalised score (percent)",
) -> PaperFigure:
    """Returns a figure of learning curves on the suite's tasks, with a row of panels for each family."""
    tasks = [task.name for task in SUITES[suite].tasks()] if suite else None
    methods = [method for family in families for method in family]
    return PaperFigure(
        f"{what} over training, mean over seeds with 95% interval",
        functools.partial(curves.read_curves, methods=methods, tasks=tasks, quantity=column),
        functools.partial(curves.draw_panels, families=families, unit=unit, quantity=quantity),
    )


def _ablation(what: str, field: str) -> PaperFigure:
    return PaperFigure(
        f"last scores and divergence against {what}",
        functools.partial(curves.read_ablation, field=field),
        functools.partial(curves.draw_ablation, field=field),
    )


def _bellman_errors(whose: str, method: str, tasks: Sequence[str] | None = None) -> PaperFigure:
    return PaperFigure(
        f"Bellman errors of {whose}; Gumbel, Gaussian and logistic laws fitted",
        functools.partial(bellman_errors.read, method=method, tasks=tasks),
        bellman_errors.draw_bellman_errors,
    )


FIGURES = {
    "2": PaperFigure(
        "Gumbel density, Gumbel loss, and regression at several β",
        regression.compute_2,
        regression.draw_2,
    ),
    "4": PaperFigure(
        "V and greedy paths in a maze: squared error, Gumbel at several β, exact maximum",
        maze.compute_maze,
        maze.draw_maze,
    ),
}
FIGURES_OF_RUNS = {
    "3": _curves(
        "online returns",
        [["sac", "xsac"], ["td3", "xtd3", "td3_dq", "xtd3_dq"]],
        column="return",
        unit="steps of the environment",
        quantity="return (reward units)",
    ),
    "7": _curves("offline scores", [list(OFFLINE)]),
    "8": _ablation("beta", "beta"),
    "9": _ablation("the batch size", "batch_size"),
    "10": _curves("XQL's scores on Gym locomotion, its settings apart,", [["xql"]], "locomotion"),
    "11": _curves("XQL's scores on AntMaze, its settings apart,", [["xql"]], "antmaze"),
    "12": _curves("XQL's scores on Franka Kitchen, its settings apart,", [["xql"]], "kitchen"),
    "1": _bellman_errors("SAC on cheetah-run", "sac", ["cheetah-run"]),
    "5": _bellman_errors("SAC on every task", "sac"),
    "6": _bellman_errors("TD3 on every task", "td3"),
}
