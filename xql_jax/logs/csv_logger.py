"""CSV files that a killed and resumed run leaves as an unbroken one would."""

import csv
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from xql_jax.files import write_atomically, writing

LOG = logging.getLogger(__name__)


class CSVLogger:
    """Appends rows, each whole in the file before `write` returns, where a kill of the process leaves it.

    The first column is `step`. `sync` has the disk take them, where a loss of power leaves them too.

    Rows are written before the checkpoint of their step, so a run resumed from step s first drops the rows
    after s, and a last row cut short by a kill with them. Lines that are no rows are dropped with a warning,
    and the file as it was is kept beside.
    """

    def __init__(self, path: Path, resume_step: int = 0):
        self._path = path
        self._columns: Sequence[str] | None = None
        kept, damaged = _rows_until(path, resume_step)
        if damaged:
            aside = path.with_name(f"damaged-{path.name}")
            with writing(aside):
                shutil.copyfile(path, aside)
            LOG.warning(f"{path}: {damaged} damaged line(s) dropped; the file as it was is {aside.name}")
        write_atomically(path, "".join(kept))
        if kept:
            self._columns = next(csv.reader(kept[:1]))
        with writing(path):
            self._file: IO[str] = path.open("a", newline="", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        if self._columns is None:
            self._columns = list(row)
            self._append(self._columns)
        self._append([_text(row[column]) for column in self._columns])

    def sync(self) -> None:
        with writing(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with writing(self._path):
            self._file.close()

    def _append(self, cells: Sequence[str]) -> None:
        with writing(self._path):
            csv.writer(self._file, lineterminator="\n").writerow(cells)
            self._file.flush()


def _rows_until(path: Path, step: int) -> tuple[list[str], int]:
    """The header and the rows up to `step`, as lines, and the number of lines that are neither.

    There are none if the file has no whole header, or nothing to keep. A last line without its end is what a
    kill leaves, no damage.
    """
    if step == 0 or not path.exists():
        return [], 0
    with writing(path):
        lines = path.read_bytes().split(b"\n")[:-1]
    cells = [_cells(line) for line in lines]
    if not cells or not cells[0] or cells[0][0] != "step":
        return [], len(lines)
    of_numbers = [
        2 * sum(row is not None and i < len(row) and _is_number(row[i]) for row in cells[1:]) >= len(cells)
        for i in range(len(cells[0]))
    ]
    steps = [_step(row, of_numbers) for row in cells]
    kept = [line for line, at in zip(lines, steps, strict=True) if at is not None and at <= step]
    return [line.decode() + "\n" for line in (lines[0], *kept)], steps[1:].count(None)


def _cells(line: bytes) -> list[str] | None:
    """The line's cells; None if it is no text, or no CSV."""
    try:
        (cells,) = csv.reader([line.decode()], strict=True)
    except (ValueError, csv.Error):  # UnicodeDecodeError is a ValueError
        return None
    return cells


def _step(cells: list[str] | None, of_numbers: Sequence[bool]) -> int | None:
    """A row's step; None if it is no row: a cell for each column, and a number where most rows have one."""
    if cells is None or len(cells) != len(of_numbers) or not re.fullmatch("[0-9]+", cells[0]):
        return None
    good = all(_is_number(cell) for cell, number in zip(cells, of_numbers, strict=True) if number)
    return int(cells[0]) if good else None


def _is_number(cell: str) -> bool:
    """Is it one, or empty: nothing to tell?"""
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)  # 9 digits give a float32 back exactly
