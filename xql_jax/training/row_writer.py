"""What a training measures, written as rows of CSV files and to loggers such as TensorBoard's."""

import contextlib
import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from xql_jax.errors import UserError
from xql_jax.files import write_atomically, writing
from xql_jax.logs.csv_rows import Row, parse_rows
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.logs.wandb import WandbLogger
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Member
from xql_jax.training.schedule import Schedule
from xql_jax.types import Json

LOG = logging.getLogger(__name__)
MetricsLogger = TensorBoardLogger | WandbLogger  # which show numbers as curves


class CSVLogger:
    """Appends rows to a CSV file. A row is in the file when `write` returns, even if the process is killed.

    A resumed run begins with the rows of its checkpoint, header first. It drops the file's rows of later
    steps, because it writes them again. UserError if the earlier ones are not the checkpoint's.
    """

    def __init__(self, path: Path, rows: bytes = b""):
        self.path = path
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        last = _step_of(rows.splitlines()[-1]) if rows else 0
        there = b"".join(line for line in lines if _step_of(line) <= last)
        known = min(len(there), len(rows))
        if there[:known] != rows[:known]:
            raise UserError(
                f"{path}: not as the run wrote it. Put it back as it was, or delete it: the rows of the last "
                "checkpoint take its place"
            )
        self._gone: set[str] = set()  # columns that are no longer measured
        self._columns = rows.split(b"\n", 1)[0].decode().split(",") if rows else None
        write_atomically(path, rows)
        with writing(path):
            self._file: IO[bytes] = path.open("ab")

    def write(self, row: Mapping[str, object]) -> None:
        """Appends a row, and before the first one a header.

        A run that began with other columns keeps them, because its rows are these columns: a number that was
        not measured then is left out, and a column that is no longer measured is empty, with a warning.
        """
        text = ""
        if self._columns is None:
            self._columns = list(row)
            text = ",".join(self._columns) + "\n"
        if gone := set(self._columns) - row.keys() - self._gone:
            self._gone |= gone
            LOG.warning(f"{self.path}: {', '.join(sorted(gone))}: no longer measured, so empty from here on")
        values = [row.get(column, "") for column in self._columns]
        # 9 digits give a float32 back exactly.
        text += (
            ",".join(f"{value:.9g}" if isinstance(value, float) else str(value) for value in values) + "\n"
        )
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


def _step_of(line: bytes) -> int:
    """Returns the step of a line of a CSV file, 0 for the header."""
    step = line.partition(b",")[0]
    return int(step) if step.isdigit() else 0


class RowWriter:
    """Writes the rows of members to CSV files, and their numbers to loggers.

    Args:
        intervals: of each file's rows, in steps.
        saved: the rows that a checkpoint holds, by the file's name. Of these a run that was to end earlier
            has more than are due: they are left out, but for those of step 0, which are --eval_at_start's.
    """

    def __init__(
        self,
        members: Sequence[Member],
        intervals: Mapping[Path, int],
        schedule: Schedule,
        loggers: Sequence[MetricsLogger],
        saved: Mapping[str, bytes],
    ):
        self._members, self._loggers, self._logs = members, loggers, {}
        for path, interval in intervals.items():
            lines = saved.get(path.name, b"").splitlines(keepends=True)
            steps = map(_step_of, lines)  # the header's is 0
            kept = [step == 0 or schedule.is_due(step, interval) for step in steps]
            self._logs[path] = CSVLogger(path, b"".join(itertools.compress(lines, kept)))
        for logger in loggers:
            if isinstance(logger, WandbLogger):  # a kill may have lost rows
                self._send_again(logger)

    def rows_of(self, path: Path) -> list[Row]:
        """Returns the rows that are in a file."""
        return parse_rows(path.read_bytes(), ["seed", *self._members[0].hyperparameters], path)

    def _send_again(self, logger: WandbLogger) -> None:
        rows: list[tuple[str, Row]] = []
        for path in self._logs:
            if (prefix := {"metrics.csv": "", "evaluations.csv": "evaluation/"}.get(path.name)) is not None:
                rows += [(prefix, row) for row in self.rows_of(path)]
        names = [member.name for member in self._members]
        for prefix, row in sorted(rows, key=lambda pair: pair[1].step):
            numbers = {prefix + name: cell for name, cell in row.results.items() if name != "diverged_at"}
            logger.write(names.index(Member(row.seed, dict(row.setting)).name), row.step, numbers)

    def write(
        self,
        path: Path,
        progress: Progress,
        columns: Mapping[str, Sequence[float | str]],
        skipped: Collection[int] = (),
        prefix: str = "",
    ) -> None:
        """Writes a row, and events of its numbers, for each member that is not skipped, from columns [M]."""
        seconds = round(progress.update_seconds + progress.evaluation_seconds, 3)
        for index, member in enumerate(self._members):
            if index not in skipped:
                cells = {name: column[index] for name, column in columns.items()}
                self._logs[path].write(_row(member, progress, {**cells, "seconds": seconds}))
                numbers = {prefix + name: cell for name, cell in cells.items() if isinstance(cell, float)}
                for logger in self._loggers:
                    logger.write(index, progress.step, numbers)

    def write_each(
        self, path: Path, progress: Progress, columns: Mapping[str, np.ndarray], skipped: Collection[int] = ()
    ) -> None:
        """Writes N rows for each member that is not skipped, from columns [M, N] by name."""
        for index, member in enumerate(self._members):
            of_member = [] if index in skipped else [column[index].tolist() for column in columns.values()]
            for cells in zip(*of_member, strict=True):
                self._logs[path].write(_row(member, progress, dict(zip(columns, cells, strict=True))))

    def saving(self) -> Callable[[Path], None]:
        """Returns a function that writes the rows until now into a checkpoint's folder."""
        sizes = {path: log.size for path, log in self._logs.items()}

        def write(folder: Path) -> None:
            (folder / "logs").mkdir()
            for path, size in sizes.items():
                (folder / "logs" / path.name).write_bytes(path.read_bytes()[:size])
            for logger in self._loggers:
                logger.flush()

        return write

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # closes the others if one fails
            for logger in self._loggers:
                stack.callback(logger.close)
            for log in self._logs.values():
                stack.callback(log.close)


def _row(member: Member, progress: Progress, cells: Json) -> Json:
    """Returns the cells after step, seed and hyperparameters; UserError if a name comes twice."""
    start = {"step": progress.step, "seed": member.seed, **member.hyperparameters}
    if twice := start.keys() & cells.keys():
        raise UserError(f"{min(twice)}: the name of a swept hyperparameter and of a measured column")
    return start | cells
