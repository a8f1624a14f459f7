"""What all figures share: tables of numbers, and how they and the pictures drawn from them are written."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from xql_jax.outputs import write_output
from xql_jax.reports.score_table import csv_table
from xql_jax.reports.style import render

Table = Mapping[str, np.ndarray]  # columns by name, all of the same length
Tables = Mapping[str, Table]  # by name


class PaperFigure(NamedTuple):
    """A figure of the paper: tables of numbers, and a picture drawn from these tables only."""

    what: str  # a short description
    compute: Callable[..., Tables]  # from a seed; of runs from the folder that holds them
    draw: Callable[[Tables], Figure]
    describe: Callable[[Tables], list[str]] = lambda tables: []  # lines for the terminal


def write_figure(
    name: str, folder: Path, tables: Tables, picture: Figure, formats: Collection[str]
) -> list[Path]:
    """Writes figure_NAME.FORMAT in each of these formats, and figure_NAME_TABLE.csv for each table.

    Returns:
        The paths of these files.
    Raises:
        UserError: if a file cannot be written.
    """
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


def unique(column: np.ndarray) -> list:
    """Returns the values of a column, each once, in the order of their first appearance."""
    return list(dict.fromkeys(column.tolist()))
