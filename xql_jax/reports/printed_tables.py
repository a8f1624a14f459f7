"""The scores on D4RL that the paper prints in its tables, and scores that others published."""

import csv
import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from typing import NamedTuple

from xql_jax.errors import UserError
from xql_jax.files.paths import located

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
    """Returns the published scores on these tasks; UserError, naming the line, if it is no such file."""
    columns = ",".join(PublishedScore._fields)
    try:
        lines = located(file).read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"--published={file}: cannot be read: {error}") from error
    rows = csv.DictReader(lines)
    if rows.fieldnames != [*PublishedScore._fields]:
        raise UserError(f"--published={file}: its first line must be {columns}")
    found: dict[tuple[str, str], PublishedScore] = {}
    for row in rows:
        place = f"--published={file}, line {rows.line_num}"
        if None in row or None in row.values():
            raise UserError(f"{place}: must have {len(PublishedScore._fields)} cells: {columns}")
        one = PublishedScore(**row)
        _check_number(place, "score", one.score)
        if one.spread:
            _check_number(place, "spread", one.spread)
        if (one.task, one.method) in found:
            raise UserError(f"{place}: a second score of {one.method} on {one.task}")
        found[one.task, one.method] = one
    return [one for one in found.values() if one.task in tasks]


def _check_number(place: str, name: str, text: str) -> None:
    try:
        float(text)
    except ValueError:
        raise UserError(f"{place}: the {name} must be a number, not {text!r}") from None


def with_published(rows: Sequence[Sequence[str]], published: Sequence[PublishedScore]) -> list[list[str]]:
    """Returns a table of scores, a row per task, with a column more for each published method."""
    cells = {(one.task, one.method): _cell(one) for one in published}
    header, *body = map(list, rows)
    for method in dict.fromkeys(one.method for one in published):
        header.append(f"{method}, published")
        for row in body:
            row.append(cells.get((row[0], method), ""))
    return [header, *body]


def _cell(one: PublishedScore) -> str:
    return f"{one.score} ± {one.spread}" if one.spread else one.score
