"""CSV files that a killed and resumed run leaves as an unbroken one would."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any


class CSVLogger:
    """Appends rows, each whole in the file before `write` returns, where a kill of the process leaves it.

    The first column is `step`.

    Rows are written before the checkpoint of their step, so a run resumed from step s first drops the rows
    after s, and a last row cut short by a kill with them.
    """

    def __init__(self, path: Path, resume_step: int = 0):
        self._path = path
        self._columns: Sequence[str] | None = None
        kept = _rows_until(path, resume_step)
        write_atomically(path, "".join(kept))
        if kept:
            self._columns = next(csv.reader(kept[:1]))
        self._file: IO[str] = path.open("a", newline="")

    def write(self, row: Mapping[str, Any]) -> None:
        if self._columns is None:
            self._columns = list(row)
            self._append(self._columns)
        self._append([_text(row[column]) for column in self._columns])

    def close(self) -> None:
        self._file.close()

    def _append(self, cells: Sequence[str]) -> None:
        csv.writer(self._file, lineterminator="\n").writerow(cells)
        self._file.flush()


def write_atomically(path: Path, text: str) -> None:
    """Writes to a temporary name beside `path`, then renames: readers see the old file or the new, whole."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _rows_until(path: Path, step: int) -> list[str]:
    """The header and the rows up to `step`, as lines; none if there is no whole header or nothing to keep."""
    if step == 0 or not path.exists():
        return []
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return lines[:1] + [line for line in lines[1:] if int(line.split(",", 1)[0]) <= step]


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)  # 9 digits give a float32 back exactly
