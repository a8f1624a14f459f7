"""The reader for the rows of a run's CSV files."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xql_jax.errors import Damaged

TIMES = ("step", "seconds")  # columns that say when; columns that are neither times nor settings are results


class Columns(NamedTuple):
    """The columns of a run's CSV files, apart from the results, as its config.json declares them."""

    times: Sequence[str]
    settings: Sequence[str]  # the seed, and the hyperparameters that a sweep varies

    @classmethod
    def of(cls, hyperparameters: Sequence[str]) -> "Columns":
        return cls(TIMES, ("seed", *hyperparameters))


class Row(NamedTuple):
    """A row: its step, seed and swept hyperparameters, and the results."""

    step: int
    seed: int
    setting: tuple[tuple[str, float], ...]  # the swept hyperparameters
    results: Mapping[str, float]  # NaN for an empty cell


def parse_rows(text: bytes, columns: Columns, path: Path) -> list[Row]:
    """Returns the rows of a file's text, header first; none if there is no row yet.

    Args:
        path: of the file, for messages.
    Raises:
        Damaged: if a column is missing or appears twice, or a cell is no number.
    """
    try:
        reader = csv.DictReader(io.StringIO(text.decode(), newline=""), strict=True)
        names = reader.fieldnames or []
        if len(set(names)) < len(names):
            raise ValueError(f"a column twice, of {', '.join(names)}")
        return [_row(cells, columns) for cells in reader]
    except (ValueError, TypeError, KeyError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise Damaged(f"{path}: damaged: {type(error).__name__}: {error}") from error


def _row(cells: Mapping[str, Any], columns: Columns) -> Row:
    setting = tuple((name, float(cells[name])) for name in columns.settings if name != "seed")
    results = {
        name: float(cell) if cell != "" else math.nan
        for name, cell in cells.items()
        if name not in (*columns.times, *columns.settings)
    }
    return Row(int(cells["step"]), int(cells["seed"]), setting, results)
