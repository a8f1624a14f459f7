"""What a training measures, written as rows of CSV files and as TensorBoard events."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.learners.fields import hyperparameters
from xql_jax.logs.csv_logger import CSVLogger
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.rollout.evaluation import EpisodeResults
from xql_jax.tasks import Task
from xql_jax.training.checkpoints import Progress
from xql_jax.training.population import Population
from xql_jax.types import Metrics


class RowWriter:
    """Writes the rows and events of a population's members.

    Args:
        paths: of the CSV files.
        events: the folder of the TensorBoard events.
        saved: the rows that a checkpoint holds, by file name.
        step: of that checkpoint, or 0.
    """

    def __init__(
        self,
        population: Population,
        paths: Sequence[Path],
        events: Path,
        saved: Mapping[str, bytes],
        step: int,
    ):
        self._members = population.members
        self._logs = {path: CSVLogger(path, saved.get(path.name, b"")) for path in paths}
        self._tensorboard = TensorBoardLogger(events, [member.name for member in self._members], step)
        if not saved:
            for index, member in enumerate(self._members):
                values = hyperparameters(population.member(index)[0])  # type: ignore[arg-type]
                self._tensorboard.write_hyperparameters(index, {"seed": member.seed, **values})

    def write_metrics(self, path: Path, progress: Progress, metrics: Metrics, skipped: Sequence[int]) -> None:
        """Writes a row with the metrics f32[M] of each member that is not skipped."""
        columns = {name: np.asarray(metric) for name, metric in metrics.items()}
        for index in self._others(skipped):
            scalars = {name: float(column[index]) for name, column in columns.items()}
            self._logs[path].write({**self._start(index, progress), **scalars, **_end(progress)})
            self._tensorboard.write(index, progress.step, scalars)

    def write_numbers(
        self, path: Path, progress: Progress, column: str, numbers: np.ndarray, skipped: Sequence[int]
    ) -> None:
        """Writes a row for each of the numbers f32[M, N] of the members that are not skipped."""
        for index in self._others(skipped):
            for number in numbers[index].tolist():
                self._logs[path].write({**self._start(index, progress), column: number})

    def write_evaluation(
        self, path: Path, progress: Progress, results: EpisodeResults, task: Task, diverged: Mapping[int, Any]
    ) -> np.ndarray:
        """Writes a row with the results of each member, diverged or not; returns the scores f64[M]."""
        returns = results.returns.mean(axis=1)
        scores = task.normalized_score(returns)
        for index in range(len(self._members)):
            scalars = {
                "return": float(returns[index]),
                "score": float(scores[index]),
                "length": float(results.lengths[index].mean()),
            }
            if results.successes is not None:
                scalars["success_rate"] = float(results.successes[index].mean())
            at = {"diverged_at": diverged[index].step if index in diverged else ""}
            self._logs[path].write({**self._start(index, progress), **scalars, **at, **_end(progress)})
            scalars = {f"evaluation/{name}": value for name, value in scalars.items()}
            self._tensorboard.write(index, progress.step, scalars)
        return np.asarray(scores)

    def saving(self) -> Callable[[Path], None]:
        """Returns a function that writes the rows until now into a checkpoint's folder."""
        sizes = {path: log.size for path, log in self._logs.items()}

        def write(folder: Path) -> None:
            (folder / "logs").mkdir()
            for path, size in sizes.items():
                with path.open("rb") as file:
                    (folder / "logs" / path.name).write_bytes(file.read(size))
            self._tensorboard.flush()

        return write

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # closes the others if one fails
            stack.callback(self._tensorboard.close)
            for log in self._logs.values():
                stack.callback(log.close)

    def _others(self, skipped: Sequence[int]) -> list[int]:
        return [index for index in range(len(self._members)) if index not in skipped]

    def _start(self, index: int, progress: Progress) -> Mapping[str, Any]:
        member = self._members[index]
        return {"step": progress.step, "seed": member.seed, **member.hyperparameters}


def _end(progress: Progress) -> Mapping[str, float]:
    return {"seconds": round(progress.update_seconds + progress.evaluation_seconds, 3)}
