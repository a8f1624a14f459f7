"""The paper's tables of scores: the sweep that reproduces a table, and its scores beside the paper's."""

import dataclasses
import itertools
from collections.abc import Sequence

from xql_jax.learners.registry import OFFLINE
from xql_jax.numerics.statistics import grouped
from xql_jax.runs.varied import fields_of
from xql_jax.workshop.reports.scores import FINETUNING_TABLE, Curve, MethodScore, PaperTable, curves_of
from xql_jax.workshop.sweeps.plan import FINISHED, TUNED, Cell, check_methods
from xql_jax.workshop.sweeps.sweep_settings import Sweep

Setting = tuple[tuple[str, float], ...]  # values of what was swept, by their names


def of_table(settings: Sweep, paper: PaperTable) -> Sweep:
    """Returns the sweep that makes the paper's table; UserError if a method is no offline method."""
    check_methods(settings.methods, (*OFFLINE, TUNED))
    return dataclasses.replace(
        settings,
        datasets=settings.datasets or paper.datasets,
        methods=settings.methods or paper.methods,
        finetune=settings.table == FINETUNING_TABLE,
        name=settings.name or f"table_{settings.table}",
    )


def scores_of(cells: Sequence[Cell], paper: PaperTable | None = None) -> list[MethodScore]:
    """Returns the scores so far, beside the paper's. Runs that differ only in their seeds share a score."""
    by_setting: dict[tuple[str, str, Setting], list[tuple[Cell, list[Curve]]]] = {}
    for cell in cells:
        for setting, curves in _by_setting(cell).items():
            by_setting.setdefault((cell.dataset, cell.method, setting), []).append((cell, curves))
    scores = []
    for (dataset, method, setting), parts in by_setting.items():
        notes = [": ".join(filter(None, (cell.state, cell.missing))) for cell, curves in parts if not curves]
        score = MethodScore(
            dataset,
            method,
            settings={name: f"{value:.9g}" for name, value in setting},
            members=[curve for _, curves in parts for curve in curves],
            note="; ".join(dict.fromkeys(notes)),
            paper=paper.scores.get((dataset, method)) if paper and not setting else None,
            paper_before=paper.before.get((dataset, method)) if paper and not setting else None,
        )
        scores.append(score)
    return scores


def _by_setting(cell: Cell) -> dict[Setting, list[Curve]]:
    """Returns the numbers of the seeds for each setting of the cell's sweep; none while it is unfinished."""
    if cell.state == FINISHED and cell.run:
        return grouped(curves_of(cell.run), lambda curve: tuple(curve.swept.items()))
    grid = {name: map(float, values.split(",")) for name, values in fields_of(cell.settings.sweep)}
    return {tuple(zip(grid, values, strict=True)): [] for values in itertools.product(*grid.values())}
