"""What a figure is: tables of numbers, and a picture drawn from nothing but those tables."""

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xql_jax.errors import UserError
from xql_jax.logs.files import write_atomically

Table = Mapping[str, np.ndarray]  # columns by name, all of one length


@dataclasses.dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper as a computation; the picture is drawn from the tables written beside it."""

    what: str  # it shows, in a few words
    compute: Callable[[int], dict[str, Table]]  # from a seed
    draw: Callable[[Mapping[str, Table]], Figure]

    def write(self, name: str, folder: Path, seed: int) -> list[Path]:
        """Computes, draws and writes figure_NAME.png, and figure_NAME_TABLE.csv for each table.

        Raises:
            UserError: if a file cannot be written.
        """
        tables = self.compute(seed)
        paths = []
        for table_name, table in tables.items():
            paths.append(folder / f"figure_{name}_{table_name}.csv")
            write_atomically(paths[-1], _as_csv(table))
        picture = folder / f"figure_{name}.png"
        temporary = picture.with_name(f".{picture.name}.tmp")
        try:
            self.draw(tables).savefig(temporary, format="png", dpi=150)
            os.replace(temporary, picture)
        except OSError as error:
            raise UserError(f"{picture}: cannot be written: {error.strerror}") from error
        return [picture, *paths]


def long_table(*columns: str, rows: list[tuple]) -> Table:
    """Returns rows as columns of those names."""
    return {name: np.array(values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)}


def where(table: Table, **values: object) -> Table:
    """Returns the rows whose columns have these values."""
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
