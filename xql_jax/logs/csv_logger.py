"""CSV files of a run. Checkpoints also hold their rows, so a run survives damage to the files."""

import contextlib
import csv
import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from xql_jax.errors import UserError
from xql_jax.files import read_file, set_aside, write_atomically, writing

LOG = logging.getLogger(__name__)


class CSVLogger:
    """Appends rows to a CSV file. A row is in the file when `write` returns, even if the process is killed.

    The first column is `step`. All rows are kept in memory, and each checkpoint holds the rows written before
    it. A resumed run begins with the rows of its checkpoint, and ignores what the file holds: rows of later
    steps, which it writes again, a last row cut short, or damage. A damaged file is first renamed.

    Args:
        rows: the rows in the checkpoint, header first. None for a new run, which never overwrites rows.
    """

    def __init__(self, path: Path, rows: bytes | None = None):
        self.path = path
        held = rows or b""
        if rows is None and (aside := _set_aside(path, lambda there: b"\n" not in there, "earlier")):
            LOG.warning(f"{path}: no checkpoint goes with it, the run begins anew; it is now {aside.name}")
        if rows is not None and (aside := _set_aside(path, lambda there: there.startswith(held), "damaged")):
            LOG.warning(f"{path}: not as the run wrote it; the file as it was is {aside.name}")
        self._blocks = [held] if held else []
        self._pending: list[bytes] = []
        self._columns = next(csv.reader([held.split(b"\n", 1)[0].decode()])) if held else None
        write_atomically(path, held)
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

    def rows(self) -> tuple[bytes, ...]:
        """Returns all rows so far, header first, as blocks of text that never change."""
        if self._pending:
            self._blocks.append(b"".join(self._pending))
            self._pending = []
        return tuple(self._blocks)

    def mend(self) -> None:
        """Renames the file and writes it again if its content is not what the run wrote."""
        rows = b"".join(self.rows())
        with contextlib.suppress(OSError):
            if read_file(self.path) == rows:
                return
        aside = f"; the file as it was is {set_aside(self.path).name}" if os.path.lexists(self.path) else ""
        LOG.warning(f"{self.path}: changed by somebody else during the run; it is written anew{aside}")
        write_atomically(self.path, rows)

    def close(self) -> None:
        with writing(self.path):
            self._file.close()

    def _append(self, cells: Sequence[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(cells)
        self._pending.append(line.getvalue().encode())
        with writing(self.path):
            self._file.write(self._pending[-1])
            self._file.flush()


def _set_aside(path: Path, is_fine: Callable[[bytes], bool], word: str) -> Path | None:
    """Renames what lies at `path` if it cannot be read as a file, or if `is_fine` rejects its content.

    The new name begins with `word`; if the file cannot be read, with "damaged".

    Returns:
        The new path; None if nothing was renamed.
    """
    if not os.path.lexists(path):
        return None
    try:
        return None if is_fine(read_file(path)) else set_aside(path, word)
    except OSError:  # a pipe, or a broken link
        return set_aside(path)


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)  # 9 digits give a float32 back exactly
