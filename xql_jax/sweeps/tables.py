"""The paper's tables of scores: the sweep that reproduces one, and its scores beside the paper's."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

from xql_jax.learners.registry import OFFLINE
from xql_jax.reports.paper_tables import FINETUNING, PaperTable, read_paper_table
from xql_jax.reports.score_table import Entry, ScoreTable
from xql_jax.sweeps.plan import FINISHED, TUNED, Cell, check_methods
from xql_jax.sweeps.settings import ReproductionSettings, SweepSettings

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
    key = cell.dataset, cell.method
    scores: dict[str, Any] = (
        {"paper": paper.scores.get(key), "paper_before": paper.before.get(key)} if paper else {}
    )
    if cell.state != FINISHED or cell.record is None:
        note = f"{cell.state}{': ' if cell.missing else ''}{cell.missing}"
        sweep = [part.partition("=") for part in cell.settings.sweep.split()]
        for values in itertools.product(*(values.split(",") for _, _, values in sweep)):
            setting = [f"{name}={float(v):.9g}" for (name, _, _), v in zip(sweep, values, strict=True)]
            yield " ".join((cell.method, *setting)), Entry(note=note, **({} if setting else scores))
        return
    summary = cell.record.summary
    phases = summary.get("finetuning") or [{}] * len(summary["results"])
    for result, phase in zip(summary["results"], phases, strict=True):
        setting = [f"{name}={float(value):.9g}" for name, value in result["hyperparameters"].items()]
        yield (
            " ".join((cell.method, *setting)),
            Entry(
                last=tuple(result["last_score_by_seed"]),
                best=tuple(result["best_score_by_seed"]),
                diverged=len(result["diverged_seeds"]),
                updates=summary["step"],
                before=tuple(phase.get("offline_score_by_seed", ())),
                regret=phase.get("cumulative_regret", math.nan),
                run=str(cell.record.path),
                commits=frozenset({str(cell.record.content.get("commit") or "unknown")}),
                **({} if setting else scores),
            ),
        )
