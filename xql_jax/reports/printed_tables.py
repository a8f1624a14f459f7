"""The scores on D4RL that the paper prints in its tables, and scores that others published."""

import csv
import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from xql_jax.errors import UserError

PAPER_TABLES = ("1", "2", "3")
FINETUNING_TABLE = "2"  # the table with the scores before and after fine-tuning
BEFORE_FINETUNING = "_offline"  # ends the name of a column with the scores before


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """Normalised scores by dataset and method, without the cells that the paper leaves blank.

    Methods have this project's names; xql_t is XQL with Table 4's values for each dataset.

    Source: Garg et al. 2023, Table 1 (Gym, AntMaze, Kitchen), Table 2 (AntMaze, fine-tuned) and Table 3
    (Adroit).
    """

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: Mapping[tuple[str, str], float]  # by dataset and method
    before: Mapping[tuple[str, str], float]  # scores before fine-tuning; empty except for Table 2


@functools.cache
def read_paper_table(name: str) -> PaperTable:
    """Returns the paper's table with that number, one of `PAPER_TABLES`."""
    text = (resources.files("xql_jax.reports") / "printed" / f"table_{name}.csv").read_text()
    (_, *columns), *rows = csv.reader(text.splitlines())
    scores: dict[tuple[str, str], float] = {}
    before: dict[tuple[str, str], float] = {}
    for dataset, *cells in rows:
        for column, cell in zip(columns, cells, strict=True):
            if cell != "-":
                of_phase = before if column.endswith(BEFORE_FINETUNING) else scores
                of_phase[dataset, column.removesuffix(BEFORE_FINETUNING)] = float(cell)
    methods = tuple(column for column in columns if not column.endswith(BEFORE_FINETUNING))
    return PaperTable(tuple(dataset for dataset, *_ in rows), methods, scores, before)


class PublishedScore(NamedTuple):
    """A row of a file of published scores, such as docs/results/published.csv; its entries are text."""

    method: str
    task: str
    score: str
    spread: str  # what the source has after ±
    updates: str
    source: str


def read_published(file: str, tasks: Collection[str]) -> list[PublishedScore]:
    """Returns the published scores on these tasks; UserError if it is no such file."""
    try:
        rows = csv.DictReader(Path(file).read_text("utf-8").splitlines())
        return [one for one in (PublishedScore(**row) for row in rows) if one.task in tasks]
    except (OSError, ValueError, TypeError) as error:
        columns = ",".join(PublishedScore._fields)
        raise UserError(f"--published={file}: no CSV with the columns {columns}: {error}") from error


def with_published(rows: Sequence[Sequence[str]], published: Sequence[PublishedScore]) -> list[list[str]]:
    """Returns a table of scores, a row per task, with a column more for each published method."""
    cells = {(one.task, one.method): f"{one.score} ± {one.spread}" for one in published}
    header, *body = map(list, rows)
    for method in dict.fromkeys(one.method for one in published):
        header.append(f"{method}, published")
        for row in body:
            row.append(cells.get((row[0], method), ""))
    return [header, *body]
