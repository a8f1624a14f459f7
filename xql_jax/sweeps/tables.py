"""The paper's tables of scores: the sweep that reproduces one, and its scores beside the paper's."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xql_jax.learners.registry import OFFLINE
from xql_jax.reports.paper_tables import FINETUNING, PaperTable, read_paper_table
from xql_jax.reports.score_table import Entry, ScoreTable
from xql_jax.runs.load import SavedRun
from xql_jax.sweeps.plan import FINISHED, TUNED, Cell, check_methods
from xql_jax.sweeps.settings import ReproductionSettings, SweepSettings
from xql_jax.training.members import fields_given

LOG = logging.getLogger(__name__)


def as_sweep(settings: ReproductionSettings) -> SweepSettings:
    """Returns the sweep that makes the table. By default, datasets and methods are those of the paper.

    Raises:
        UserError: if a method is no offline method.
    """
    paper = read_paper_table(settings.table)
    check_methods(settings.methods, (*OFFLINE, TUNED))
    given = {field.name: getattr(settings, field.name) for field in dataclasses.fields(SweepSettings)}
    of_table = {
        "datasets": settings.datasets or paper.datasets,
        "methods": settings.methods or paper.methods,
        "finetune": settings.table == FINETUNING,
        "name": f"table_{settings.table}",
    }
    return SweepSettings(**given | of_table)


def table_of(cells: Sequence[Cell], paper: PaperTable | None = None) -> ScoreTable:
    """Returns the scores so far, beside the paper's. Runs that differ only in their seeds share an entry."""
    entries: dict[tuple[str, str], Entry] = {}
    for cell in cells:
        for column, entry in _entries(cell, paper):
            key = cell.dataset, column
            entries[key] = _merged(entries[key], entry) if key in entries else entry
    for (dataset, column), entry in entries.items():
        if len(entry.commits) > 1:
            found = ", ".join(sorted(entry.commits))
            LOG.warning(f"{dataset}, {column}: its seeds were trained by different code: {found}")
    datasets, columns = (list(dict.fromkeys(names)) for names in zip(*entries, strict=True))
    return ScoreTable(datasets, columns, entries)


def _merged(one: Entry, other: Entry) -> Entry:
    """Returns an entry with the seeds of both. An unfinished run has no seeds, and only adds its note."""
    seeds = len(one.last) + len(other.last)
    regrets = [entry.regret * len(entry.last) for entry in (one, other) if entry.last]
    return dataclasses.replace(
        one,
        last=one.last + other.last,
        best=one.best + other.best,
        diverged=one.diverged + other.diverged,
        updates=max(one.updates, other.updates),
        before=one.before + other.before,
        commits=one.commits | other.commits,
        regret=sum(regrets) / seeds if seeds else math.nan,
        run=" ".join(filter(None, (one.run, other.run))),
        note="; ".join(dict.fromkeys(filter(None, (one.note, other.note)))),
    )


def _entries(cell: Cell, paper: PaperTable | None) -> Iterator[tuple[str, Entry]]:
    """Yields pairs (column, entry) for the cell: one per setting of the sweep."""
    found: list[tuple[Mapping[str, Any], Entry]]
    if cell.state == FINISHED and cell.record is not None:
        found = list(_finished_entries(cell.record))
    else:
        note = ": ".join(filter(None, (cell.state, cell.missing)))
        grid = {name: values.split(",") for name, values in fields_given(cell.settings.sweep)}
        combinations = itertools.product(*grid.values())
        found = [(dict(zip(grid, one, strict=True)), Entry(note=note)) for one in combinations]
    for hyperparameters, entry in found:
        if paper and not hyperparameters:
            key = cell.dataset, cell.method
            papers, before = paper.scores.get(key), paper.before.get(key)
            entry = dataclasses.replace(entry, paper=papers, paper_before=before)
        setting = [f"{name}={float(value):.9g}" for name, value in hyperparameters.items()]
        yield " ".join((cell.method, *setting)), entry


def _finished_entries(record: SavedRun) -> Iterator[tuple[Mapping[str, Any], Entry]]:
    """Yields each setting of a finished run's sweep with its entry."""
    summary = record.summary
    phases = summary.get("finetuning") or [{}] * len(summary["results"])
    for result, phase in zip(summary["results"], phases, strict=True):
        yield (
            result["hyperparameters"],
            Entry(
                last=tuple(result["last_score_by_seed"]),
                best=tuple(result["best_score_by_seed"]),
                diverged=len(result["diverged_seeds"]),
                updates=summary["step"],
                before=tuple(phase.get("offline_score_by_seed", ())),
                regret=phase.get("cumulative_regret", math.nan),
                run=str(record.path),
                is_normalised=summary.get("quantity") != "return",
                commits=frozenset({str(record.content.get("commit") or "unknown")}),
            ),
        )
