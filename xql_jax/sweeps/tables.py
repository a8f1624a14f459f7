"""The paper's tables of scores: the sweep that reproduces one, and its scores beside the paper's."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from xql_jax.learners.registry import OFFLINE
from xql_jax.reports.printed_tables import FINETUNING_TABLE, PaperTable
from xql_jax.reports.score_table import Entry, ScoreTable
from xql_jax.sweeps.plan import FINISHED, TUNED, Cell, check_methods
from xql_jax.sweeps.sweep_settings import Sweep
from xql_jax.training.members import fields_given
from xql_jax.types import Json


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


def table_of(cells: Sequence[Cell], paper: PaperTable | None = None) -> ScoreTable:
    """Returns the scores so far, beside the paper's. Runs that differ only in their seeds share an entry."""
    found: dict[tuple[str, str], list[tuple[Cell, Json]]] = {}
    for cell in cells:
        for hyperparameters, result in _results(cell):
            setting = [f"{name}={float(value):.9g}" for name, value in hyperparameters.items()]
            column = " ".join((cell.method, *setting))
            found.setdefault((cell.dataset, column), []).append((cell, result))
    entries = {place: _entry(results, paper, place) for place, results in found.items()}
    datasets = list(dict.fromkeys(dataset for dataset, _ in entries))
    columns = list(dict.fromkeys(column for _, column in entries))
    return ScoreTable(datasets, columns, entries)


def _results(cell: Cell) -> Iterator[tuple[Json, Json]]:
    """Yields each setting of the cell's sweep with its result, both phases in one; {} while unfinished."""
    if cell.state == FINISHED and cell.record is not None:
        summary = cell.record.summary
        phases = summary.get("finetuning") or [{}] * len(summary["results"])
        for result, phase in zip(summary["results"], phases, strict=True):
            yield result["hyperparameters"], {**result, **phase}
    else:
        grid = {name: values.split(",") for name, values in fields_given(cell.settings.sweep)}
        for one in itertools.product(*grid.values()):
            yield dict(zip(grid, one, strict=True)), {}


def _entry(results: Sequence[tuple[Cell, Json]], paper: PaperTable | None, place: tuple[str, str]) -> Entry:

    def of_seeds(name: str) -> tuple[float, ...]:
        return tuple(value for _, result in results for value in result.get(name, ()))

    records = [cell.record for cell, result in results if result and cell.record]
    notes = [": ".join(filter(None, (cell.state, cell.missing))) for cell, result in results if not result]
    regrets = of_seeds("cumulative_regret_by_seed")
    return Entry(
        last=of_seeds("last_score_by_seed"),
        best=of_seeds("best_score_by_seed"),
        diverged=len(of_seeds("diverged_seeds")),
        updates=max((record.summary["step"] for record in records), default=0),
        before=of_seeds("offline_score_by_seed"),
        regret=float(np.mean(regrets)) if regrets else math.nan,
        paper=paper.scores.get(place) if paper else None,
        paper_before=paper.before.get(place) if paper else None,
        run=" ".join(str(record.path) for record in records),
        commits=frozenset(str(record.content.get("commit") or "unknown") for record in records),
        note="; ".join(dict.fromkeys(notes)),
        is_normalised=all(record.summary.get("quantity") != "return" for record in records),
    ).scored(results[0][0].references)
