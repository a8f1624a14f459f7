"""The loop of a training: steps of what is trained, and between them logs, evaluations and checkpoints."""

import contextlib
import dataclasses
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.evaluation.policies import around, prepared
from xql_jax.evaluation.rollout import Evaluator
from xql_jax.files import set_aside
from xql_jax.logs.csv_logger import CSVLogger
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.tasks import Task
from xql_jax.training.checkpoints import KEPT, Checkpoints, Progress
from xql_jax.training.members import member_shapes
from xql_jax.training.online import OnlinePopulation
from xql_jax.training.population import Population
from xql_jax.training.signals import StopSignals
from xql_jax.types import Metrics

LOG = logging.getLogger(__name__)

SECONDS_PER_CALL = 1.0  # of compiled updates: the longest that the bar stands still or a signal waits
SECONDS_PER_LINE = 10.0  # between lines that only say how far it is


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When the loop does what, in steps. The last step is always logged, evaluated and saved.

    A step is an update of offline training, a step of the environment of online training. A checkpoint is
    also due when the last one is `checkpoint_minutes` old, at whatever step that is.
    """

    max_steps: int
    log_interval: int
    eval_interval: int
    checkpoint_interval: int
    checkpoint_minutes: float = 10.0  # 0: by steps alone
    keep_checkpoints: int = KEPT  # the last so many; 0: all

    def is_due(self, step: int, interval: int) -> bool:
        return step % interval == 0 or step == self.max_steps

    def next_stop(self, step: int, *others: int) -> int:
        """The next step after which something is due by its number, here or at one of other intervals."""
        intervals = (self.log_interval, self.eval_interval, self.checkpoint_interval, *others)
        return min(self.max_steps, *((step // interval + 1) * interval for interval in intervals))


@dataclasses.dataclass(frozen=True)
class Recording:
    """What is measured every so many steps and goes to a file of its own: a row a number."""

    path: Path  # of the CSV: step, seed, hyperparameters, `column`
    column: str
    interval: int  # steps
    measure: Callable[[], np.ndarray]  # f32[M, N], N numbers of each member as it is now


class _Interrupted(Exception):
    """A signal came during an evaluation."""


class TrainingFiles:
    """Where a training's files are."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.metrics = folder / "metrics.csv"
        self.evaluations = folder / "evaluations.csv"
        self.bellman_errors = folder / "bellman_errors.csv"
        self.summary = folder / "summary.json"
        self.preprocessing = folder / "preprocessing.json"
        self.replay = folder / "replay"  # the buffers' files, a folder a member
        self.events = folder / "tb"  # TensorBoard's


class TrainingLoop:
    """A population's training and its files.

    Resumed, it writes the rows that an unbroken one would, but online, where episodes begin again.

    Args:
        evaluator, task: None for no evaluation.
        recordings: beside the logs and evaluations.
        observe, reward: what is done to observations and rewards before the policies see them.
        run: the digest of the run's identity, by which its files are told from another's.
    """

    def __init__(
        self,
        population: Population | OnlinePopulation,
        evaluator: Evaluator | None,
        task: Task | None,
        schedule: Schedule,
        files: TrainingFiles,
        recordings: Sequence[Recording] = (),
        observe: Callable[[np.ndarray], np.ndarray] = lambda observations: observations,
        reward: Callable[[np.ndarray], np.ndarray] = lambda rewards: rewards,
        run: str = "",
    ):
        self.population = population
        self._evaluator = evaluator
        self._task = task
        self._schedule = schedule
        self._observe, self._reward = observe, reward
        self._checkpoints = Checkpoints(files.checkpoints, run, schedule.keep_checkpoints)
        like = member_shapes(population.states, population.members)
        resumed = self._checkpoints.resume_last_good(like, population.resume)
        self.progress = resumed or Progress()
        if not resumed and os.path.lexists(files.replay):
            aside = set_aside(files.replay, "earlier")
            LOG.warning(
                f"{files.replay}: no checkpoint goes with it, the run begins anew; it is now {aside.name}"
            )
        self._reported = set(population.diverged)
        rows = self._checkpoints.logs(resumed.step) if resumed else {}
        self._recordings = recordings
        paths = files.metrics, files.evaluations, *(recording.path for recording in recordings)
        # Also a checkpoint that another run's members began with has no rows.
        self.logs = {path: CSVLogger(path, rows.get(path.name)) for path in paths}
        self._metrics_csv, self._evaluations_csv = self.logs[files.metrics], self.logs[files.evaluations]
        names = [member.name for member in population.members]
        self._tensorboard = TensorBoardLogger(files.events, names, self.progress.step)

    @property
    def finished(self) -> bool:
        return self.progress.step == self._schedule.max_steps and not self.progress.evaluation_due

    def run(self, stop: StopSignals, *, show_progress: bool, steps_per_call: int | None = None) -> None:
        """Trains until max_steps or until it is told to stop.

        Args:
            stop: is looked at after each call.
            show_progress: draw a bar, if stderr is a terminal.
            steps_per_call: the most in one call, a multiple of the stride; None for about a second's worth.
        Raises:
            EnvironmentFailure: as environments do; what was trained until then is saved. Not if it is told to
                stop: then that was a stop like others.
        """
        schedule, population = self._schedule, self.population
        recorded = [recording.interval for recording in self._recordings]
        call = steps_per_call or max(population.stride, 100 // population.stride * population.stride)
        self._saved_at, self._said_at = time.monotonic(), -math.inf
        bar = tqdm(
            total=schedule.max_steps,
            initial=self.progress.step,
            unit=f" {population.unit}s",
            disable=None if show_progress else True,
        )
        with bar:
            try:
                if self.progress.evaluation_due:
                    self._evaluate(stop, bar, again=True)
                while self.progress.step < schedule.max_steps and not stop.received:
                    start = self.progress.step
                    end = min(start + call, schedule.next_stop(start, *recorded))
                    began = time.perf_counter()
                    try:
                        metrics = population.advance(end)
                    finally:  # where an environment fails, at less than `end`
                        seconds = time.perf_counter() - began
                        update_seconds = self.progress.update_seconds + seconds
                        self._advance(step=population.step, update_seconds=update_seconds)
                    if steps_per_call is None:
                        strides = int((end - start) * SECONDS_PER_CALL / seconds) // population.stride
                        call = max(1, strides) * population.stride
                    self._report_divergences()
                    bar.update(end - start)
                    if schedule.is_due(end, schedule.log_interval):
                        self._log(metrics)
                    self._record()
                    if self._evaluator and schedule.is_due(end, schedule.eval_interval):
                        self._evaluate(stop, bar)
                    if self._checkpoint_is_due() or stop.received:
                        self._save()
            except EnvironmentFailure as error:
                if self.progress.step:
                    self._save()
                if not stop.received:
                    raise
                LOG.warning(str(error))
            finally:
                self._checkpoints.wait()
        for log in self.logs.values():
            log.mend()

    def _checkpoint_is_due(self) -> bool:
        seconds = 60 * self._schedule.checkpoint_minutes
        old = 0 < seconds <= time.monotonic() - self._saved_at
        return old or self._schedule.is_due(self.progress.step, self._schedule.checkpoint_interval)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if not self._evaluator and (
            self.progress.step == self._schedule.max_steps
            or self._saved_at - self._said_at >= SECONDS_PER_LINE
        ):
            self._said_at = self._saved_at
            LOG.info(f"{self.population.unit} {self.progress.step:,}")  # where evaluations' lines do not tell
        saving = self.population.saving()
        self._advance(members=saving.members, held=saving.held)

        rows = {path.name: log.rows() for path, log in self.logs.items()}

        def write_more(folder: Path) -> None:
            saving.write()
            (folder / "logs").mkdir()
            for name, blocks in rows.items():
                with (folder / "logs" / name).open("wb") as file:
                    file.writelines(blocks)
            self._tensorboard.flush()

        self._checkpoints.save(saving.states, self.progress, write_more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.close()
        except UserError:
            if error is None:
                raise  # else what is told is why the training ended, not what a full disk does to its files

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # the checkpoints first, all of them even if one fails
            logs = (log.close for log in self.logs.values())
            for close in (self._tensorboard.close, *logs, self._checkpoints.close):
                stack.callback(close)

    def _advance(self, **changes: Any) -> None:
        self.progress = dataclasses.replace(self.progress, **changes)

    def _report_divergences(self) -> None:
        for index in sorted(set(self.population.diverged) - self._reported):
            divergence = self.population.diverged[index]
            LOG.info(
                f"{self.population.members[index]} diverged at {self.population.unit} {divergence.step} "
                f"({divergence.quantity} not finite)"
            )
            self._reported.add(index)

    def _log(self, metrics: Metrics) -> None:
        if not metrics:  # before the first update
            return
        columns = {name: np.asarray(metric) for name, metric in metrics.items()}
        for index in range(len(self.population.members)):
            if index in self.population.diverged:
                continue
            scalars = {name: float(column[index]) for name, column in columns.items()}
            self._metrics_csv.write({**self._row_start(index), **scalars, **self._row_end()})
            self._tensorboard.write(index, self.progress.step, scalars)

    def _record(self) -> None:
        for recording in self._recordings:
            if not self._schedule.is_due(self.progress.step, recording.interval):
                continue
            for index, numbers in enumerate(recording.measure()):
                if index not in self.population.diverged:
                    for number in numbers.tolist():
                        row = {**self._row_start(index), recording.column: number}
                        self.logs[recording.path].write(row)

    def _evaluate(self, stop: StopSignals, bar: tqdm, again: bool = False) -> None:
        """Evaluates and writes a row a member; or, at a signal, leaves that to the resumed run.

        So it does where an environment fails, but only once: from the same starts it may always fail. `again`
        says that this is an evaluation that was left.
        """
        assert self._evaluator is not None
        assert self._task is not None
        policy = prepared(self.population.policy(), self._observe, self._reward)

        def act(observations: np.ndarray) -> np.ndarray:
            if stop.received:
                raise _Interrupted
            return policy(observations)

        began = time.perf_counter()
        self._advance(evaluation_due=True)
        try:
            results = self._evaluator.run(around(policy, act))
        except _Interrupted:
            return
        except EnvironmentFailure as error:
            if again and self.progress.step < self._schedule.max_steps and not stop.received:
                self._advance(evaluation_due=False)
                LOG.warning(f"{error}; the evaluation of step {self.progress.step:,} failed twice, left out")
                return
            raise
        seconds = self.progress.evaluation_seconds + time.perf_counter() - began
        self._advance(evaluation_seconds=seconds, evaluation_due=False)
        self._report_divergences()
        returns = results.returns.mean(axis=1)
        scores = self._task.normalized_score(returns)
        for index in range(len(self.population.members)):
            divergence = self.population.diverged.get(index)
            scalars = {
                "return": float(returns[index]),
                "score": float(scores[index]),
                "length": float(results.lengths[index].mean()),
            }
            if results.successes is not None:
                scalars["success_rate"] = float(results.successes[index].mean())
            diverged = {"diverged_at": divergence.step if divergence else ""}
            self._evaluations_csv.write({**self._row_start(index), **scalars, **diverged, **self._row_end()})
            scalars = {f"evaluation/{name}": value for name, value in scalars.items()}
            self._tensorboard.write(index, self.progress.step, scalars)
        spread = f" ({scores.min():.1f} to {scores.max():.1f})" if len(scores) > 1 else ""
        bar.set_postfix_str(f"score {scores.mean():.1f}{spread}")
        LOG.info(f"{self.population.unit} {self.progress.step:,}: score {scores.mean():.1f}{spread}")

    def _row_start(self, index: int) -> Mapping[str, Any]:
        member = self.population.members[index]
        return {"step": self.progress.step, "seed": member.seed, **member.hyperparameters}

    def _row_end(self) -> Mapping[str, float]:
        return {"seconds": round(self.progress.update_seconds + self.progress.evaluation_seconds, 3)}
