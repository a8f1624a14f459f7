"""The progress of a sweep's runs, read from their folders. The runs may be trained on any machine."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xql_jax.errors import UserError
from xql_jax.files import read_file
from xql_jax.runs.record import RunRecord, open_record
from xql_jax.sweeps.plan import FINISHED, Cell, has_identity

TAIL = 4096  # bytes of a file that are enough for its last row


class Progress(NamedTuple):
    """The present state of a cell (a run of the sweep)."""

    cell: Cell
    state: str
    step: int  # of the last row of its metrics
    score: float | None  # mean over members at the last evaluation


class Watch:
    """Reads the progress of cells from their runs' folders, also of runs that are begun later."""

    def __init__(self, cells: Sequence[Cell]):
        self._cells = list(cells)
        self._records = {index: cell.record for index, cell in enumerate(cells) if cell.record}
        self._endings: dict[int, str] = {}
        self._ended_at: dict[int, int] = {}  # steps; a cell beyond this step is being trained again
        self._read: set[Path] = set()  # config.json files

    def ended(self, cell: Cell, state: str) -> None:
        """Records how the training of the cell ended. It may go on later."""
        index = [str(other) for other in self._cells].index(str(cell))
        self._endings[index] = state
        record = self._found(index)
        self._ended_at[index] = _last_step(record.files.metrics) if record else 0

    def look(self) -> list[Progress]:
        return [self._progress(index, cell) for index, cell in enumerate(self._cells)]

    def _progress(self, index: int, cell: Cell) -> Progress:
        record = self._found(index)
        if record is None:
            return Progress(cell, self._endings.get(index, cell.state), 0, None)
        score = _last_score(record.files.evaluations)
        if cell.state == FINISHED:
            return Progress(cell, FINISHED, cell.steps, score)
        step = _last_step(record.files.metrics)
        if index in self._endings and step <= self._ended_at[index]:
            return Progress(cell, self._endings[index], step, score)
        return Progress(cell, "running" if step > cell.step else cell.state, step, score)

    def _found(self, index: int) -> RunRecord | None:
        """Returns the cell's run, looked for where it will be written. Each file is read only once."""
        cell = self._cells[index]
        if index in self._records:
            return self._records[index]
        for file in Path(cell.settings.save_dir).expanduser().glob(f"*/{cell.algorithm}/*/config.json"):
            if file in self._read:
                continue
            try:
                record = open_record(file.parent)
            except UserError:  # being written, or damaged: the run itself reports that
                continue
            self._read.add(file)
            for number, other in enumerate(self._cells):
                if has_identity(record, other.identity):
                    self._records.setdefault(number, record)
        return self._records.get(index)


def _last_step(file: Path) -> int:
    """Returns the step of the last complete row; 0 if there is none."""
    try:
        with file.open("rb") as rows:
            rows.seek(max(0, os.path.getsize(file) - TAIL))
            lines = rows.read().split(b"\n")[:-1]
    except OSError:
        return 0
    number = lines[-1].split(b",")[0] if lines else b""
    return int(number) if number.isdigit() else 0


def _last_score(file: Path) -> float | None:
    """Returns the mean score over the rows of the last step; None if there are none."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_file(file).decode())))
        last = [float(row["score"]) for row in rows if row["step"] == rows[-1]["step"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # being written
    return sum(last) / len(last) if last else None
