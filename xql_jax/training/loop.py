"""The training loop: it advances a population, and logs, evaluates and saves checkpoints in between."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.rollout.evaluation import EpisodeResults, Evaluator
from xql_jax.rollout.policies import around, prepared
from xql_jax.tasks import Task
from xql_jax.training.acting import EPISODE_METRICS
from xql_jax.training.checkpoints import Checkpoints, Progress, TrainingFiles
from xql_jax.training.population import Population
from xql_jax.training.progress import Pace, without_bar
from xql_jax.training.rows import RowWriter
from xql_jax.training.schedule import Schedule
from xql_jax.training.signals import StopSignals
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

    Fine-tuning is two trainings, one after the other: at the schedule's hand-over, the population is replaced
    by the one that `hand_over` makes of it.

    Args:
        evaluator, task: None for no evaluation.
        recordings: measured in addition to the logs and evaluations.
        preprocessing: applied to observations and rewards before the policies see them.
        hand_over: returns the population of the second phase, with the states of the first one's members.
    Attributes:
        population: what is trained now.
        unit: the name of one step.
        csv_files: with the rows of all members.
    """

    def __init__(
        self,
        population: Population,
        evaluator: Evaluator | None,
        task: Task | None,
        schedule: Schedule,
        files: TrainingFiles,
        recordings: Sequence[Recording] = (),
        preprocessing: Preprocessing = UNCHANGED,
        hand_over: Callable[[Population], Population] | None = None,
    ):
        self.population, self._first_phase, self._hand_over = population, population, hand_over
        self.unit = "step" if hand_over else population.unit
        self._evaluator, self._task, self._schedule = evaluator, task, schedule
        self._preprocessing, self._files, self._recordings = preprocessing, files, recordings
        self._checkpoints = Checkpoints(
            files.checkpoints, files.run, schedule.keep_checkpoints, schedule.handover
        )
        try:
            resumed = self._checkpoints.resume_last_good(population.saved_shapes(), self._resume)
        except BaseException:
            self.population.close()
            raise
        # With a hand-over at 0 the offline phase is empty, so the given policies are evaluated first.
        evaluates_first = schedule.handover == 0 or schedule.eval_at_start
        self.progress = resumed or Progress(evaluation_due=evaluator is not None and evaluates_first)
        self._reported = set(self.population.diverged)
        saved = self._checkpoints.logs(resumed.step) if resumed else {}
        self.csv_files = [files.metrics, files.evaluations, *(recording.path for recording in recordings)]
        self._rows = RowWriter(self.population, self.csv_files, files.events, saved, self.progress.step)

    @property
    def finished(self) -> bool:
        return self.progress.step == self._schedule.max_steps and not self.progress.evaluation_due

    def run(
        self,
        stop: StopSignals,
        *,
        show_progress: bool,
        steps_per_call: int | None = None,
    ) -> None:
        """Trains until max_steps, or until a signal asks it to stop.

        Args:
            stop: checked after each compiled call.
            show_progress: draw a progress bar if stderr is a terminal or belongs to a notebook.
            steps_per_call: the most steps in one compiled call, but at least one stride of the population;
                None for about one second's worth.
        Raises:
            EnvironmentFailure: if an environment fails, after saving what was trained until then. If a stop
                was requested as well, the failure is only logged.
        """
        schedule = self._schedule
        recorded = [recording.interval for recording in self._recordings]
        last = schedule.max_steps
        call = steps_per_call or 100
        self._saved_at = time.monotonic()
        self._pace = Pace(self.progress.step, last, self.unit, time.monotonic)
        bar = tqdm(
            total=schedule.max_steps,
            initial=self.progress.step,
            unit=f" {self.unit}s",
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
                    stride = self.population.stride  # it changes at a hand-over
                    planned = start + max(1, call // stride) * stride
                    end = min(planned, schedule.next_stop(start, *recorded))
                    metrics, seconds = self._train(end)
                    if steps_per_call is None:
                        call = int((end - start) * SECONDS_PER_CALL / seconds)
                    bar.update(end - start)
                    self._write_due(metrics, stop, bar)
                    if bar.disable and end < last and self._pace.has_been_silent():
                        LOG.info(self._pace.line(end))
                    is_due = schedule.is_due(end, schedule.checkpoint_interval)
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

    def _resume(self, items: dict[str, dict[str, Any]], progress: Progress) -> None:
        """Continues from a checkpoint, of the phase that it belongs to."""
        if self.population is not self._first_phase:  # made for a later checkpoint, which was damaged
            self.population.close()
            self.population = self._first_phase
        if self._hand_over and progress.step > (self._schedule.handover or 0):
            self.population = self._hand_over(self._first_phase)
        self.population.resume(items, progress)

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
        if self._hand_over and self.progress.step == self._schedule.handover:
            self.population = self._hand_over(self._first_phase)
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

        write_rows = self._rows.saving()

        def write_more(folder: Path) -> None:
            saving.write()
            write_rows(folder)

        self._checkpoints.save(saving.items, self.progress, write_more)

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
            for close in (self.population.close, self._rows.close, self._checkpoints.close):
                stack.callback(close)

    def _advance(self, **changes: Any) -> None:
        self.progress = dataclasses.replace(self.progress, **changes)

    def _report_divergences(self) -> None:
        for index in sorted(set(self.population.diverged) - self._reported):
            divergence = self.population.diverged[index]
            LOG.info(
                f"{self.population.members[index]} diverged at {self.unit} {divergence.step} "
                f"({divergence.quantity} not finite)"
            )
            self._reported.add(index)

    def _log(self, metrics: Metrics) -> None:
        if not metrics:  # before the first update
            return
        if self._hand_over:  # both phases have the same columns
            nan = jnp.full(len(self.population.members), jnp.nan)
            metrics = {**metrics, **{name: metrics.get(name, nan) for name in EPISODE_METRICS}}
        metrics = metrics | self.population.interval_means()
        self._rows.write_metrics(self._files.metrics, self.progress, metrics, list(self.population.diverged))
        if self._schedule.is_multiple(self.progress.step, self._schedule.log_interval):
            self.population.begin_interval()

    def _record(self) -> None:
        for recording in self._recordings:
            if self._schedule.is_due(self.progress.step, recording.interval):
                skipped = list(self.population.diverged)
                numbers = recording.measure()
                self._rows.write_numbers(recording.path, self.progress, recording.column, numbers, skipped)

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
        assert self._task is not None
        scores = self._rows.write_evaluation(
            self._files.evaluations, self.progress, results, self._task, self.population.diverged
        )
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
