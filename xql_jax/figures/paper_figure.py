"""Figures of the paper: each consists of tables of numbers, and a picture drawn from these tables only."""

import csv
import dataclasses
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xql_jax.errors import UserError
from xql_jax.outputs import writing_output
from xql_jax.reports.style import render
from xql_jax.runs.load import SavedRun

Table = Mapping[str, np.ndarray]  # columns by name, all of the same length


@dataclasses.dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper that is computed, without any training runs."""

    what: str  # a short description
    compute: Callable[[int], dict[str, Table]]  # from a seed
    draw: Callable[[Mapping[str, Table]], Figure]


@dataclasses.dataclass(frozen=True)
class RunsFigure:
    """A figure of the paper that shows finished training runs."""

    what: str  # a short description
    algorithms: Sequence[str]  # the figure shows runs of these algorithms
    read: Callable[[Sequence[SavedRun]], dict[str, Table]]  # from at least one run
    draw: Callable[[Mapping[str, Table]], Figure]
    tasks: Sequence[str] | None = None  # None: all
    describe: Callable[[Mapping[str, Table]], list[str]] = lambda tables: []  # lines for the terminal

    def tables(self, runs: Sequence[SavedRun], where_from: str) -> dict[str, Table]:
        """Reads the tables from the runs that the figure shows.

        Args:
            runs: finished runs; those of other algorithms or tasks, and fine-tuned ones, are ignored.
            where_from: the folder of the runs, for messages.
        Raises:
            UserError: if the figure shows none of the runs.
        """
        shown = [
            run
            for run in runs
            if run.algorithm in self.algorithms
            and (self.tasks is None or run.name in self.tasks)
            and run.handover is None
        ]
        if not shown:
            there = ", ".join(sorted({f"{run.algorithm} on {run.name}" for run in runs})) or "none"
            named = self.algorithms if len(self.algorithms) < 10 else ["train_offline.py"]
            wanted = " or ".join(named) + (f" on {' or '.join(self.tasks)}" if self.tasks else "")
            raise UserError(f"{where_from}: needs a finished run of {wanted}; there are: {there}")
        return self.read(shown)


def write_figure(
    name: str,
    folder: Path,
    tables: Mapping[str, Table],
    draw: Callable[[Mapping[str, Table]], Figure],
    formats: Collection[str] = ("png", "svg"),
) -> list[Path]:
    """Draws and writes figure_NAME.FORMAT, and figure_NAME_TABLE.csv for each table; returns their paths.

    Args:
        formats: the pictures' formats, each one of `style.FORMATS`.
    Raises:
        UserError: if a file cannot be written.
    """
    figure = draw(tables)
    contents = {f"figure_{name}.{kind}": render(figure, kind) for kind in formats}
    for table_name, table in tables.items():
        contents[f"figure_{name}_{table_name}.csv"] = _as_csv(table).encode()
    for file_name, content in contents.items():
        with writing_output("out", folder / file_name) as unfinished:
            unfinished.write_bytes(content)
    return [folder / file_name for file_name in contents]


def long_table(*columns: str, rows: Sequence[tuple]) -> Table:
    """Returns a table with these columns, made from rows."""
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return {name: np.array(column) for name, column in zip(columns, values, strict=True)}


def where(table: Table, **values: object) -> Table:
    """Returns the rows of a table in which the named columns have these values."""
    kept = np.ones(len(next(iter(table.values()))), bool)
    for name, value in values.items():
        kept &= table[name] == value
    return {name: column[kept] for name, column in table.items()}


def _as_csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*(column.tolist() for column in table.values()), strict=True):
        writer.writerow([f"{value:.9g}" if isinstance(value, float) else value for value in row])
    return text.getvalue()
