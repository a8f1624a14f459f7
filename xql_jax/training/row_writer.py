"""What a training measures, written as rows of CSV files and to loggers such as TensorBoard's."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xql_jax.logs.csv_rows import CSVLogger, parse_rows
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.logs.wandb import WandbLogger
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Member
from xql_jax.types import Json

MetricsLogger = TensorBoardLogger | WandbLogger  # which show numbers as curves


class RowWriter:
    """Writes the rows of members to CSV files, and their numbers to loggers.

    `saved` are the rows that a checkpoint holds, by file name.
    """

    def __init__(
        self,
        members: Sequence[Member],
        paths: Iterable[Path],
        loggers: Sequence[MetricsLogger],
        saved: Mapping[str, bytes],
    ):
        self._members, self._loggers = members, loggers
        self._logs = {path: CSVLogger(path, saved.get(path.name, b"")) for path in paths}
        for logger in (one for one in loggers if isinstance(one, WandbLogger)):  # a kill may have lost rows
            self._send_again(logger, saved)

    def _send_again(self, logger: WandbLogger, saved: Mapping[str, bytes]) -> None:
        rows, columns = [], ["seed", *self._members[0].hyperparameters]
        for name, prefix in (("metrics.csv", ""), ("evaluations.csv", "evaluation/")):
            rows += [(prefix, row) for row in parse_rows(saved.get(name, b""), columns, Path(name))]
        names = [member.name for member in self._members]
        for prefix, row in sorted(rows, key=lambda one: one[1].step):
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
                self._logs[path].write({**_start(member, progress), **cells, "seconds": seconds})
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
                self._logs[path].write({**_start(member, progress), **dict(zip(columns, cells, strict=True))})

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


def _start(member: Member, progress: Progress) -> Json:
    return {"step": progress.step, "seed": member.seed, **member.hyperparameters}
