"""CSV files of a run. Checkpoints also hold their rows."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from xql_jax.errors import UserError
from xql_jax.files import write_atomically, writing


class CSVLogger:
    """Appends rows to a CSV file. A row is in the file when `write` returns, even if the process is killed.

    The first column is `step`. A resumed run begins with the rows of its checkpoint, and drops those that the
    file has of later steps, because it writes them again.

    Args:
        rows: the rows in the checkpoint, header first; none for a new run.
    Raises:
        UserError: if the file has other rows than the checkpoint, because somebody else has changed it.
    """

    def __init__(self, path: Path, rows: bytes = b""):
        self.path = path
        there = path.read_bytes() if path.exists() else b""
        known = min(len(there), len(rows))
        if there[:known] != rows[:known]:
            raise UserError(
                f"{path}: not as the run wrote it: put it back as it was, or delete it, and the rows are "
                "taken from the last checkpoint"
            )
        self._columns = next(csv.reader([rows.split(b"\n", 1)[0].decode()])) if rows else None
        write_atomically(path, rows)
        with writing(path):
            self._file: IO[bytes] = path.open("ab")

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a row, and before the first one a header; UserError if a later row has other columns."""
        if self._columns is None:
            self._columns = list(row)
            self._append(self._columns)
        if row.keys() != set(self._columns):
            other = ", ".join(sorted(row.keys() ^ set(self._columns)))
            raise UserError(
                f"{self.path}: its rows were begun with other columns, by another version: {other}"
            )
        self._append([_text(row[column]) for column in self._columns])

    @property
    def size(self) -> int:
        """The length of all rows so far, in bytes: the file's first bytes never change."""
        return self._file.tell()

    def close(self) -> None:
        with writing(self.path):
            self._file.close()

    def _append(self, cells: Sequence[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        with writing(self.path):
            self._file.write(line.getvalue().encode())
            self._file.flush()


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)  # 9 digits give a float32 back exactly
