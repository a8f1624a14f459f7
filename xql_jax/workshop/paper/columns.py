"""Tables of numbers as columns by name, from which figures are drawn."""

from collections.abc import Mapping, Sequence

import numpy as np

Table = Mapping[str, np.ndarray]  # columns by name, all of the same length
Tables = Mapping[str, Table]  # by name


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
