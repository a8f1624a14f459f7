"""The training loop: it advances a population, and logs, evaluates and saves checkpoints in between."""

import concurrent.futures
import contextlib
import csv
import dataclasses
import functools
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
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.rollout.acting import prepared, with_memory_of
from xql_jax.rollout.evaluation import EpisodeResults, Evaluator
from xql_jax.tasks import Task
from xql_jax.training.acting_population import EPISODE_METRICS
from xql_jax.training.checkpoints import Checkpoints, Progress, TrainingFiles
from xql_jax.training.members import Divergence
from xql_jax.training.population import Population
from xql_jax.training.progress import Pace, progress_bar
from xql_jax.training.row_writer import RowWriter
from xql_jax.training.schedule import Schedule
from xql_jax.training.signals import StopSignals
from xql_jax.types import Metrics

LOG = logging.getLogger(__name__)

UNCHANGED = Preprocessing()
SECONDS_PER_CALL = 1.0  # of one compiled call; the progress bar and signals wait that long at most


class _Interrupted(Exception):
    """A signal came during an evaluation."""


Snapshot = tuple[dict[str, dict[str, Any]], Progress, Callable[[Path], None]]  # for `Checkpoints.save`


@dataclasses.dataclass(frozen=True)
class _Evaluation:
    """An evaluation that has begun, or that begins when its results are asked for."""

    step: int
    results: Callable[[], EpisodeResults]
    snapshot: Snapshot | None  # of its step, where training goes on if it is abandoned or a member diverged
    not_finite: set[int]  # members with an action that was not finite


class TrainingLoop:
    """The training of a population, with its log files, evaluations and checkpoints.

    Making one continues from the last good checkpoint in `files`, if there is one. A resumed training writes
    the same rows as an uninterrupted one. The exception is online training with simulators outside the
    compiled program, where episodes start again.

    Fine-tuning is two trainings, one after the other: at the schedule's hand-over, the population is replaced
    by the one that `hand_over` makes of it.

    Args:
        evaluator, task: None for no evaluation.
        preprocessing: applied to observations and rewards before the policies see them.
        hand_over: returns the population of the second phase, with the states of the first one's members.
        loggers: get the numbers of the rows as TensorBoard does, perhaps a `WandbLogger`; closed at the end.
    """

    def __init__(
        self,
        population: Population,
        evaluator: Evaluator | None,
        task: Task | None,
        schedule: Schedule,
        files: TrainingFiles,
        preprocessing: Preprocessing = UNCHANGED,
        hand_over: Callable[[Population], Population] | None = None,
        loggers: Sequence[Any] = (),
    ):
        self.population, self._first_phase, self._hand_over = population, population, hand_over
        self.unit = "step" if hand_over else population.unit  # the name of one step
        self._evaluator, self._task, self._schedule = evaluator, task, schedule
        self._preprocessing, self._files = preprocessing, files
        self._checkpoints = Checkpoints(
            files.checkpoints, files.run_id, schedule.keep_checkpoints, schedule.handover
        )
        try:
            resumed = self._checkpoints.resume_last_good(population.saved_shapes(), self._resume)
        except BaseException:
            self.population.close()  # that of the second phase, if it was made
            raise
        # With a hand-over at 0 the offline phase is empty, so the given policies are evaluated first.
        evaluates_first = schedule.handover == 0 or schedule.eval_at_start
        self.progress = resumed or Progress(evaluation_due=evaluator is not None and evaluates_first)
        self._reported = set(self.population.diverged)
        self._evaluation: _Evaluation | None = None  # whose rows are not written yet
        self._held_rows: list[tuple[Any, ...]] = []  # those of later steps
        self._background = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="evaluation")
        self._closing = False
        saved = self._checkpoints.logs(resumed.step) if resumed else {}
        self.csv_files = [files.metrics, files.evaluations, files.episodes]
        self.csv_files += [files.bellman_errors] * bool(schedule.bellman_error_interval)
        if evaluator:
            rows = csv.DictReader(saved.get(files.evaluations.name, b"").decode().splitlines())
            evaluator.tells_success = any(row.get("success_rate", "nan") != "nan" for row in rows)
        names = [member.name for member in population.members]
        tensorboard = TensorBoardLogger(files.events, names, self.progress.step)
        self._rows = RowWriter(self.population, self.csv_files, [tensorboard, *loggers], saved)

    @property
    def finished(self) -> bool:
        return self.progress.step == self._schedule.max_steps and not self.progress.evaluation_due

    def run(self, stop: StopSignals, *, show_progress: bool, steps_per_call: int | None = None) -> None:
        """Trains until max_steps, or until a signal asks it to stop.

        Args:
            show_progress: draw a progress bar if stderr is a terminal or belongs to a notebook.
            steps_per_call: the most steps in one compiled call, but at least one stride of the population;
                None for about one second's worth.
        Raises:
            EnvironmentFailure: if an environment fails, after saving what was trained until then. If a stop
                was requested as well, the failure is only logged.
        """
        schedule, last, call = self._schedule, self._schedule.max_steps, steps_per_call or 1
        self._saved_at = time.monotonic()
        self._pace = Pace(self.progress.step, last, self.unit)
        with progress_bar(last, self.unit, show_progress, self.progress.step) as bar:
            try:
                if self.progress.evaluation_due:
                    self._evaluate(stop, bar, again=self.progress.step > 0)  # at the start it is the first
                while self.progress.step < last and not stop.received:
                    if self._hand_over and self.progress.step == schedule.handover:
                        self.population, call = self._hand_over(self._first_phase), steps_per_call or 1
                    self._compile(stop)
                    if stop.received:
                        break
                    start, stride = self.progress.step, self.population.stride
                    end = min(start + max(1, call // stride) * stride, schedule.next_stop(start))
                    metrics, seconds = self._train(end)
                    if steps_per_call is None and metrics:  # short until it learns, which takes longer
                        call = int((end - start) * SECONDS_PER_CALL / seconds)
                    bar.update(end - bar.n)
                    self._report_divergences()
                    if schedule.is_due(end, schedule.log_interval):
                        self._log(metrics, stop)
                    if schedule.is_due(end, schedule.bellman_error_interval):
                        population: Any = self.population  # of members that act
                        columns, diverged = {"error": population.bellman_errors()}, population.diverged
                        self._rows.write_each(self._files.bellman_errors, self.progress, columns, diverged)
                    if self._evaluator and schedule.is_due(end, schedule.eval_interval):
                        self._evaluate(stop, bar)
                        end = self.progress.step  # training may have gone back
                    if bar.disable and end < last and self._pace.has_been_silent():
                        mean = np.mean(metrics.get("episode/return", np.nan))  # online, once one has ended
                        news = f"episode return {mean:.1f}" if np.isfinite(mean) else ""
                        LOG.info(self._pace.line(end, news))
                    minutes = (time.monotonic() - self._saved_at) / 60
                    is_late = 0 < schedule.checkpoint_minutes <= minutes
                    if stop.received or is_late or schedule.is_due(end, schedule.checkpoint_interval):
                        self._save(stop, bar)
            except EnvironmentFailure as error:
                if self.progress.step:
                    self._save(stop, bar)
                if not stop.received:
                    raise
                LOG.warning(str(error))
            finally:
                self._checkpoints.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.close()
        except UserError:
            if error is None:
                raise  # else the reason why the training ended matters more than an error while closing files

    def close(self) -> None:
        self._closing = True
        with contextlib.ExitStack() as stack:  # closes the last first, and the others if one fails
            closes = self.population.close, self._rows.close, self._checkpoints.close
            for close in (*closes, self._background.shutdown):
                stack.callback(close)

    def _resume(self, items: dict[str, dict[str, Any]], progress: Progress) -> None:
        """Continues from a checkpoint, of the phase that it belongs to."""
        if self.population is not self._first_phase:  # made for a later checkpoint, which was damaged
            self.population.close()
            self.population = self._first_phase
        if self._hand_over and progress.step > (self._schedule.handover or 0):
            self.population = self._hand_over(self._first_phase)
        self.population.resume(items, progress)

    def _compile(self, stop: StopSignals) -> None:
        """Compiles the next program if needed: in a thread, so that Python can handle signals meanwhile."""
        if self.population.is_compiled:
            return
        LOG.info("compiling ...")
        before, told = self.population.compile_seconds, False
        executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="compiler")
        compilation = executor.submit(self.population.compile)
        executor.shutdown(wait=False)
        while concurrent.futures.wait([compilation], timeout=0.1).not_done:
            if stop.received and not told:
                LOG.info(f"{stop.received.name}: ends after the compilation, and at once if it comes again")
                told = True
        compilation.result()
        LOG.info(f"compiled in {self.population.compile_seconds - before:.1f} s")
        self._pace.begin_at(self.progress.step)

    def _train(self, end: int) -> tuple[Metrics, float]:
        """Advances the population to a step; returns the last update's metrics, and the seconds it took."""
        began = time.perf_counter()
        try:
            metrics = self.population.advance(end)
        finally:  # if an environment failed, population.step is less than `end`
            seconds = time.perf_counter() - began
            seconds_of_all = self.progress.update_seconds + seconds
            self._note(step=self.population.step, update_seconds=seconds_of_all, evaluation_due=False)
        return metrics, seconds

    def _note(self, **changes: Any) -> None:
        self.progress = dataclasses.replace(self.progress, **changes)

    def _save(self, stop: StopSignals, bar: tqdm) -> None:
        self._saved_at = time.monotonic()
        begun = self._evaluation.step if self._evaluation else self.progress.step  # rows of the checkpoint
        if begun < self.progress.step and self._settle(stop, bar) and not stop.received:
            return
        if not self._evaluator and self.progress.step == self._schedule.max_steps:
            LOG.info(self._pace.line(self.progress.step))  # no evaluation logs the last step
        self._note(evaluation_due=self.progress.evaluation_due or self._evaluation is not None)
        self._checkpoints.save(*self._snapshot())

    def _snapshot(self) -> Snapshot:
        saving, write_rows = self.population.saving(), self._rows.saving()
        self._note(members=saving.members, held=saving.held)

        def write_more(folder: Path) -> None:
            saving.write()
            write_rows(folder)

        return saving.items, self.progress, write_more

    def _report_divergences(self) -> None:
        for index in sorted(set(self.population.diverged) - self._reported):
            divergence = self.population.diverged[index]
            LOG.info(
                f"{self.population.members[index]} diverged at {self.unit} {divergence.step} "
                f"({divergence.quantity} not finite)"
            )
            self._reported.add(index)

    def _log(self, metrics: Metrics, stop: StopSignals) -> None:
        if not metrics:  # before the first update
            return
        if self._hand_over:  # both phases have the same columns
            nan = jnp.full(len(self.population.members), jnp.nan)
            metrics = {**metrics, **{name: metrics.get(name, nan) for name in EPISODE_METRICS}}
        metrics = metrics | self.population.interval_means()
        columns = {name: np.asarray(metric, np.float64).tolist() for name, metric in metrics.items()}
        row = self._files.metrics, self.progress, columns, set(self.population.diverged)
        self._held_rows.append(row) if self._evaluation else self._rows.write(*row)
        stop.tell(self.progress.step, columns)
        if self._schedule.is_multiple(self.progress.step, self._schedule.log_interval):
            self.population.begin_interval()

    def _evaluate(self, stop: StopSignals, bar: tqdm, again: bool = False) -> None:
        """Evaluates the policies and writes one row per member, at once or while training goes on.

        At a signal the evaluation is abandoned, and the resumed run repeats it. The same holds if an
        environment fails, but only once, because the same initial states may fail every time. If training
        has gone on meanwhile, it goes back to the evaluation's step. `again`: this repeats an abandoned one.
        """
        if self._settle(stop, bar):
            return
        assert self._evaluator is not None
        in_background = self._schedule.background_evaluation and not again
        in_background &= self.progress.step < self._schedule.max_steps
        bad: set[int] = set()
        policy = prepared(self.population.policy(in_background, bad.add), self._preprocessing)

        def act(observations: np.ndarray) -> np.ndarray:
            if stop.received or self._closing:
                raise _Interrupted
            return policy(observations)

        self._note(evaluation_due=True)
        run = functools.partial(self._evaluator.run, with_memory_of(policy, act))
        if in_background:
            results = self._background.submit(run).result
            self._evaluation = _Evaluation(self.progress.step, results, self._snapshot(), bad)
        else:
            self._evaluation = _Evaluation(self.progress.step, run, None, bad)
            self._settle(stop, bar, again)

    def _settle(self, stop: StopSignals, bar: tqdm, again: bool = False) -> bool:
        """Waits for the evaluation that has begun, if any, and writes its rows. True: training went back."""
        evaluation, self._evaluation = self._evaluation, None
        held, self._held_rows = self._held_rows, []
        if evaluation is None:
            return False
        assert self._task is not None
        began, step = time.perf_counter(), evaluation.step
        try:
            results = evaluation.results()
        except (_Interrupted, EnvironmentFailure) as error:
            if evaluation.snapshot:
                items, self.progress, _ = evaluation.snapshot
                self.population.resume(items, self.progress)
                self._checkpoints.save(*evaluation.snapshot)
            if isinstance(error, _Interrupted):
                return True
            if again and self.progress.step < self._schedule.max_steps and not stop.received:
                self._note(evaluation_due=False)
                LOG.warning(f"{error}; the evaluation of step {step:,} failed twice, left out")
                return False
            raise
        seconds = self.progress.evaluation_seconds + time.perf_counter() - began
        diverged = self.population.diverged
        new = any(index not in diverged or diverged[index].step > step for index in evaluation.not_finite)
        if new and evaluation.snapshot:
            items, self.progress, _ = evaluation.snapshot
            self.population.resume(items, self.progress)
        for index in evaluation.not_finite:
            self.population.diverged.setdefault(index, Divergence(step, "actions"))
        self._note(evaluation_seconds=seconds, evaluation_due=False)
        self._report_divergences()
        if results.successes is None and self._task.suite.tells_success_late:  # the column is there for it
            results = dataclasses.replace(results, successes=np.full(results.returns.shape, np.nan))
        returns = results.returns.mean(axis=1)
        rates = None if results.successes is None else results.successes.mean(axis=1)
        scores = np.asarray(self._task.normalized_score(returns, rates))
        columns = {"return": returns, "score": scores, "length": results.lengths.mean(axis=1)}
        if rates is not None:
            columns["success_rate"] = rates
        found = (self.population.diverged.get(index) for index in range(len(scores)))
        at = [divergence.step if divergence and divergence.step <= step else "" for divergence in found]
        columns = {name: column.tolist() for name, column in columns.items()}
        rows, progress = {**columns, "diverged_at": at}, dataclasses.replace(self.progress, step=step)
        self._rows.write_each(self._files.episodes, progress, results.columns(self._task))
        self._rows.write(self._files.evaluations, progress, rows, prefix="evaluation/")
        spread = f" ({scores.min():.1f} to {scores.max():.1f})" if len(scores) > 1 else ""
        told = f"{self._task.quantity} {scores.mean():.1f}{spread}"
        bar.set_postfix_str(told)
        LOG.info(self._pace.line(step, told, self.progress.step))
        for row in () if new else held:
            self._rows.write(*row)
        stop.tell(step, columns)
        return new
