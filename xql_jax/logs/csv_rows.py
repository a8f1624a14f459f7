"""CSV files of a run, whose rows checkpoints also hold: how they are written and read."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from xql_jax.errors import Damaged, UserError
from xql_jax.files import write_atomically, writing

TIMES = ("step", "seconds")  # columns that say when; columns that are neither times nor settings are results


class CSVLogger:
    """Appends rows to a CSV file. A row is in the file when `write` returns, even if the process is killed.

    A resumed run begins with the rows of its checkpoint, header first. It drops the file's rows of later
    steps, because it writes them again. UserError if the earlier ones are not the checkpoint's.
    """

    def __init__(self, path: Path, rows: bytes = b""):
        self.path = path
        there = path.read_bytes() if path.exists() else b""
        known = min(len(there), len(rows))
        if there[:known] != rows[:known]:
            raise UserError(
                f"{path}: not as the run wrote it. Put it back as it was, or delete it: the rows of the last "
                "checkpoint take its place"
            )
        self._columns = rows.split(b"\n", 1)[0].decode().split(",") if rows else None
        write_atomically(path, rows)
        with writing(path):
            self._file: IO[bytes] = path.open("ab")

    def write(self, row: Mapping[str, object]) -> None:
        """Appends a row, and before the first one a header; UserError if a later row has other columns."""
        text = ""
        if self._columns is None:
            self._columns = list(row)
            text = ",".join(self._columns) + "\n"
        if row.keys() != set(self._columns):
            raise UserError(f"{self.path}: made by another version, with the columns {self._columns}")
        values = [row[column] for column in self._columns]
        # 9 digits give a float32 back exactly.
        text += ",".join(f"{one:.9g}" if isinstance(one, float) else str(one) for one in values) + "\n"
        with writing(self.path):
            self._file.write(text.encode())
            self._file.flush()

    @property
    def size(self) -> int:
        """The length of all rows so far, in bytes: the file's first bytes never change."""
        return self._file.tell()

    def close(self) -> None:
        with writing(self.path):
            self._file.close()


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
