"""The one reader of a run's CSV files."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xql_jax.errors import UserError

TIMES = ("step", "seconds")  # columns that say when; all that neither say when nor whose are results


class Columns(NamedTuple):
    """What the columns of a run's CSV files are, as its config.json declares them."""

    times: Sequence[str]
    settings: Sequence[str]  # whose the row is: the seed, and what a sweep varies

    @classmethod
    def of(cls, hyperparameters: Sequence[str]) -> "Columns":
        return cls(TIMES, ("seed", *hyperparameters))


class Row(NamedTuple):
    """A row: when, whose, and what came out."""

    step: int
    seed: int
    setting: tuple[tuple[str, float], ...]  # the swept hyperparameters
    results: Mapping[str, float]  # NaN for an empty cell


def read_rows(path: Path, columns: Columns) -> list[Row]:
    """Returns a file's rows, none if there is no file or no row yet.

    Raises:
        UserError: if a column is missing, or a cell is no number.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_row(cells, columns) for cells in csv.DictReader(file, strict=True)]
    except (ValueError, TypeError, KeyError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f"{path}: damaged: {type(error).__name__}: {error}") from error


def _row(cells: Mapping[str, Any], columns: Columns) -> Row:
    setting = tuple((name, float(cells[name])) for name in columns.settings if name != "seed")
    results = {
        name: float(cell) if cell != "" else math.nan
        for name, cell in cells.items()
        if name not in (*columns.times, *columns.settings)
    }
    return Row(int(cells["step"]), int(cells["seed"]), setting, results)
