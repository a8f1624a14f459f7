"""The training loop: it advances a population, and logs, evaluates and saves checkpoints in between."""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.files import set_aside
from xql_jax.learners.fields import hyperparameters
from xql_jax.logs.csv_logger import CSVLogger
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.rollout.evaluation import EpisodeResults, Evaluator
from xql_jax.rollout.policies import around, prepared
from xql_jax.tasks import Task
from xql_jax.training.checkpoints import Checkpoints, Progress
from xql_jax.training.files import TrainingFiles
from xql_jax.training.notebooks import without_bar
from xql_jax.training.pace import Pace
from xql_jax.training.schedule import Schedule
from xql_jax.training.signals import StopSignals
from xql_jax.training.trainable import Trainable
from xql_jax.types import Metrics

LOG = logging.getLogger(__name__)

UNCHANGED = Preprocessing()
SECONDS_PER_CALL = 1.0  # of one compiled call; the progress bar and signals wait that long at most


@dataclasses.dataclass(frozen=True)
class Recording:
    """A quantity measured every `interval` steps and written to its own CSV file, one row per number."""

    path: Path  # of the CSV file, with columns step, seed, hyperparameters and `column`
    column: str
    interval: int  # steps
    measure: Callable[[], np.ndarray]  # returns f32[M, N], N numbers per member at the current step


class _Interrupted(Exception):
    """A signal came during an evaluation."""


class TrainingLoop:
    """The training of a population, with its log files, evaluations and checkpoints.

    A member of the population is one seed with one setting of the swept hyperparameters. A resumed training
    writes the same rows as an uninterrupted one. The exception is online training with simulators outside the
    compiled program, where episodes start again.

    Args:
        evaluator, task: None for no evaluation.
        recordings: measured in addition to the logs and evaluations.
        preprocessing: applied to observations and rewards before the policies see them.
    Attributes:
        logs: the CSV files by their paths, with the rows of all members.
    """

    def __init__(
        self,
        population: Trainable,
        evaluator: Evaluator | None,
        task: Task | None,
        schedule: Schedule,
        files: TrainingFiles,
        recordings: Sequence[Recording] = (),
        preprocessing: Preprocessing = UNCHANGED,
    ):
        self.population = population
        self._evaluator = evaluator
        self._task = task
        self._schedule = schedule
        self._preprocessing = preprocessing
        self._files = files
        kept, spared = schedule.keep_checkpoints, schedule.handover
        self._checkpoints = Checkpoints(files.checkpoints, files.run, kept, spared)
        resumed = self._checkpoints.resume_last_good(population.saved_shapes(), population.resume)
        # With a hand-over at 0 the offline phase is empty, so the given policies are evaluated first.
        evaluates_first = schedule.handover == 0 or schedule.eval_at_start
        self.progress = resumed or Progress(evaluation_due=evaluator is not None and evaluates_first)
        if not resumed and os.path.lexists(files.replay):
            aside = set_aside(files.replay, "earlier")
            LOG.warning(
                f"{files.replay}: no checkpoint goes with it, the run begins anew; it is now {aside.name}"
            )
        self._reported = set(population.diverged)
        self._recordings = recordings
        rows = self._checkpoints.logs(resumed.step) if resumed else {}
        paths = files.metrics, files.evaluations, *(recording.path for recording in recordings)
        # A run that began with another run's members has a first checkpoint without rows.
        self.logs = {path: CSVLogger(path, rows.get(path.name)) for path in paths}
        names = [member.name for member in population.members]
        self._tensorboard = TensorBoardLogger(files.events, names, self.progress.step)
        if not resumed:
            for index, member in enumerate(population.members):
                learner: Any = population.member(index)[0]
                values = hyperparameters(learner)
                self._tensorboard.write_hyperparameters(index, {"seed": member.seed, **values})

    @property
    def finished(self) -> bool:
        return self.progress.step == self._schedule.max_steps and not self.progress.evaluation_due

    def run(
        self,
        stop: StopSignals,
        *,
        show_progress: bool,
        pause_at: int | None = None,
        steps_per_call: int | None = None,
    ) -> None:
        """Trains until max_steps, or until a signal asks it to stop.

        Args:
            stop: checked after each compiled call.
            pause_at: a step at which training saves and stops, as at a signal; None: it continues to the end.
            show_progress: draw a progress bar if stderr is a terminal or belongs to a notebook.
            steps_per_call: the most steps in one compiled call, but at least one stride of the population;
                None for about one second's worth.
        Raises:
            EnvironmentFailure: if an environment fails, after saving what was trained until then. If a stop
                was requested as well, the failure is only logged.
        """
        schedule, population = self._schedule, self.population
        recorded = [recording.interval for recording in self._recordings]
        last = schedule.max_steps if pause_at is None else min(pause_at, schedule.max_steps)
        call = steps_per_call or 100
        self._saved_at = time.monotonic()
        self._pace = Pace(self.progress.step, last, population.unit, time.monotonic)
        bar = tqdm(
            total=schedule.max_steps,
            initial=self.progress.step,
            unit=f" {population.unit}s",
            disable=without_bar() if show_progress else True,
        )
        with bar:
            try:
                if self.progress.evaluation_due:
                    was_tried = self.progress.step > 0  # an evaluation at the start was not, yet
                    self._evaluate(stop, bar, again=was_tried)
                while self.progress.step < last and not stop.received:
                    self._compile()
                    start = self.progress.step
                    stride = population.stride  # it changes at a hand-over
                    planned = start + max(1, call // stride) * stride
                    end = min(planned, schedule.next_stop(start, *recorded), last)
                    metrics, seconds = self._train(end)
                    if steps_per_call is None:
                        call = int((end - start) * SECONDS_PER_CALL / seconds)
                    bar.update(end - start)
                    self._write_due(metrics, stop, bar)
                    if bar.disable and end < last and self._pace.has_been_silent():
                        LOG.info(self._pace.line(end))
                    is_due = schedule.is_due(end, schedule.checkpoint_interval) or end == last
                    if stop.received or is_due or self._last_save_is_old():
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

    def _train(self, end: int) -> tuple[Metrics, float]:
        """Advances the population to a step; returns the last update's metrics, and the seconds it took."""
        began = time.perf_counter()
        try:
            metrics = self.population.advance(end)
        finally:  # if an environment failed, population.step is less than `end`
            seconds = time.perf_counter() - began
            self._advance(step=self.population.step, update_seconds=self.progress.update_seconds + seconds)
        return metrics, seconds

    def _write_due(self, metrics: Metrics, stop: StopSignals, bar: tqdm) -> None:
        """Writes the rows that are due at this step; evaluates if that is."""
        step, schedule = self.progress.step, self._schedule
        self._report_divergences()
        if schedule.is_due(step, schedule.log_interval):
            self._log(metrics)
        self._record()
        if self._evaluator and schedule.is_due(step, schedule.eval_interval):
            self._evaluate(stop, bar)

    def _compile(self) -> None:
        """Compiles the next program if needed, and logs the time, because it takes seconds."""
        before = self.population.compile_seconds
        if not before:
            LOG.info("compiling ...")
        self.population.compile()
        if (seconds := self.population.compile_seconds - before) > 0:
            LOG.info(f"compiled in {seconds:.1f} s")
            self._pace.begin_at(self.progress.step)

    def _last_save_is_old(self) -> bool:
        seconds = 60 * self._schedule.checkpoint_minutes
        return 0 < seconds <= time.monotonic() - self._saved_at

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if not self._evaluator and self.progress.step == self._schedule.max_steps:
            LOG.info(self._pace.line(self.progress.step))  # no evaluation logs the last step
        saving = self.population.saving()
        self._advance(members=saving.members, held=saving.held)

        rows = {path.name: log.rows() for path, log in self.logs.items()}

        def write_more(folder: Path) -> None:
            saving.write()
            if rows:
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
                raise  # else the reason why the training ended matters more than an error while closing files

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # closes the checkpoints first, and the others if one fails
            logs = (log.close for log in self.logs.values())
            for close in (self._tensorboard.close, *logs, self._checkpoints.close):
                stack.callback(close)

    def _advance(self, **changes: Any) -> None:
        self.progress = dataclasses.replace(self.progress, **changes)

    def _report_divergences(self) -> None:
        lines = []
        for index in sorted(set(self.population.diverged) - self._reported):
            divergence = self.population.diverged[index]
            lines.append(
                f"{self.population.members[index]} diverged at {self.population.unit} {divergence.step} "
                f"({divergence.quantity} not finite)"
            )
            self._reported.add(index)
        for line in lines:
            LOG.info(line)

    def _log(self, metrics: Metrics) -> None:
        if not metrics:  # before the first update
            return
        metrics = metrics | self.population.interval_means()
        columns = {name: np.asarray(metric) for name, metric in metrics.items()}
        rows = []
        for index in range(len(self.population.members)):
            if index in self.population.diverged:
                continue
            scalars = {name: float(column[index]) for name, column in columns.items()}
            rows.append({**self._row_start(index), **scalars, **self._row_end()})
            self._tensorboard.write(index, self.progress.step, scalars)
        self._write(self._files.metrics, rows)
        if self._schedule.is_multiple(self.progress.step, self._schedule.log_interval):
            self.population.begin_interval()

    def _record(self) -> None:
        for recording in self._recordings:
            if not self._schedule.is_due(self.progress.step, recording.interval):
                continue
            rows = []
            for index, numbers in enumerate(recording.measure()):
                if index not in self.population.diverged:
                    start = self._row_start(index)
                    rows += [{**start, recording.column: number} for number in numbers.tolist()]
            self._write(recording.path, rows)

    def _write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self.logs[path].write(row)

    def _evaluate(self, stop: StopSignals, bar: tqdm, again: bool = False) -> None:
        """Evaluates the policies and writes one row per member.

        At a signal the evaluation is abandoned, and the resumed run repeats it. The same holds if an
        environment fails, but only once, because the same initial states may fail every time.

        Args:
            again: this repeats an abandoned evaluation.
        """
        began = time.perf_counter()
        self._advance(evaluation_due=True)
        try:
            results = self._run_episodes(stop)
        except EnvironmentFailure as error:
            if again and self.progress.step < self._schedule.max_steps and not stop.received:
                self._advance(evaluation_due=False)
                LOG.warning(f"{error}; the evaluation of step {self.progress.step:,} failed twice, left out")
                return
            raise
        if results is None:
            return
        seconds = self.progress.evaluation_seconds + time.perf_counter() - began
        self._advance(evaluation_seconds=seconds, evaluation_due=False)
        self._report_divergences()
        rows = self._rows_of(results)
        self._write(self._files.evaluations, rows)
        scores = np.array([row["score"] for row in rows])
        spread = f" ({scores.min():.1f} to {scores.max():.1f})" if len(scores) > 1 else ""
        bar.set_postfix_str(f"score {scores.mean():.1f}{spread}")
        LOG.info(self._pace.line(self.progress.step, f"score {scores.mean():.1f}{spread}"))

    def _run_episodes(self, stop: StopSignals) -> EpisodeResults | None:
        """Runs the evaluation's episodes; None if a signal came."""
        evaluator = self._evaluator
        assert evaluator is not None
        policy = prepared(self.population.policy(), self._preprocessing)

        def act(observations: np.ndarray) -> np.ndarray:
            if stop.received:
                raise _Interrupted
            return policy(observations)

        with contextlib.suppress(_Interrupted):
            return evaluator.run(around(policy, act))
        return None

    def _rows_of(self, results: EpisodeResults) -> list[dict[str, Any]]:
        """Returns the members' rows of evaluations.csv, and writes the same numbers to TensorBoard."""
        assert self._task is not None
        returns = results.returns.mean(axis=1)
        scores = self._task.normalized_score(returns)
        rows = []
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
            rows.append({**self._row_start(index), **scalars, **diverged, **self._row_end()})
            scalars = {f"evaluation/{name}": value for name, value in scalars.items()}
            self._tensorboard.write(index, self.progress.step, scalars)
        return rows

    def _row_start(self, index: int) -> Mapping[str, Any]:
        member = self.population.members[index]
        return {"step": self.progress.step, "seed": member.seed, **member.hyperparameters}

    def _row_end(self) -> Mapping[str, float]:
        return {"seconds": round(self.progress.update_seconds + self.progress.evaluation_seconds, 3)}
