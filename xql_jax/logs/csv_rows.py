"""Rows of a run's CSV files, as they are read; training/row_writer.py writes them."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from xql_jax.errors import Damaged
from xql_jax.numerics.statistics import BySeed, by_seed_and_step, grouped

TIMES = ("step", "seconds")  # columns that say when; columns that are neither times nor settings are results


class Row(NamedTuple):
    """A row: its step, seed and swept hyperparameters, and the results."""

    step: int
    seed: int
    setting: tuple[tuple[str, float], ...]  # the swept hyperparameters
    results: Mapping[str, float]  # NaN for an empty cell


def parse_rows(text: bytes, settings: Sequence[str], path: Path) -> list[Row]:
    """Returns the rows of a file's text; Damaged if a column is missing, or a cell is no number.

    `settings` are the columns of the seed and of the swept hyperparameters.
    """
    try:
        reader = csv.DictReader(io.StringIO(text.decode(), newline=""), strict=True)
        return [_row(cells, settings) for cells in reader]
    except (ValueError, TypeError, KeyError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise Damaged(f"{path}: damaged: {type(error).__name__}: {error}") from error


def _row(cells: Mapping[str, str], settings: Sequence[str]) -> Row:
    setting = tuple((name, float(cells[name])) for name in settings if name != "seed")
    results = {
        name: float(cell) if cell != "" else math.nan
        for name, cell in cells.items()
        if name not in (*TIMES, *settings)
    }
    return Row(int(cells["step"]), int(cells["seed"]), setting, results)


def scores_by_setting(rows: Sequence[Row]) -> dict[tuple[tuple[str, float], ...], BySeed]:
    """Returns the scores by the swept values; without a sweep, the only key is empty."""
    return {
        setting: by_seed_and_step((row.seed, row.step, row.results["score"]) for row in of_setting)
        for setting, of_setting in grouped(rows, lambda row: row.setting).items()
    }
