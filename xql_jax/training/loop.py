"""The training loop: it advances a population, and logs, evaluates and saves checkpoints in between."""

import concurrent.futures
import contextlib
import csv
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.rollout.acting import prepared, with_memory_of
from xql_jax.rollout.evaluation import EpisodeResults, Evaluator
from xql_jax.rollout.scores import shown
from xql_jax.suites.tasks import Task
from xql_jax.training.checkpoints import Checkpoints, Progress, Snapshot, TrainingFiles
from xql_jax.training.population import EPISODE_METRICS, Divergence, Population
from xql_jax.training.progress import Pace, progress_bar
from xql_jax.training.row_writer import MetricsLogger, RowWriter
from xql_jax.training.schedule import Schedule
from xql_jax.training.signals import StopSignals, compile_in_thread
from xql_jax.types import Metrics, State

LOG = logging.getLogger(__name__)
SECONDS_PER_CALL = 1.0  # of one compiled call; the progress bar and signals wait that long at most

# Called with the step and each quantity's numbers, one a member, after each row and evaluation.
RowCallback = Callable[[int, Mapping[str, Sequence[float]]], object]


class EvaluationInterrupted(Exception):
    """By a signal, or because training ends."""


class BegunEvaluation(NamedTuple):
    """An evaluation whose rows are not written yet."""

    step: int
    results: Callable[[], EpisodeResults]  # waits for the thread; without one, runs the episodes now
    # In a thread: the state of its step, to which training goes back if it is abandoned or a member diverged.
    snapshot: Snapshot | None
    not_finite: set[int]  # members with an action that was not finite


class TrainingLoop(contextlib.AbstractContextManager):
    """The training of a population, with its log files, evaluations and checkpoints.

    Making one continues from the last good checkpoint in `files`, if there is one.

    Args:
        evaluator, task: None for no evaluation.
        preprocessing: applied to observations and rewards before the policies see them; None: unchanged.
        make_online: in fine-tuning, makes the population of the second phase, with the states of the first.
        loggers: get the numbers of the rows as TensorBoard does; closed at the end.
    """

    def __init__(
        self,
        population: Population,
        evaluator: Evaluator | None,
        task: Task | None,
        schedule: Schedule,
        files: TrainingFiles,
        preprocessing: Preprocessing | None = None,
        make_online: Callable[[Population], Population] | None = None,
        loggers: Sequence[MetricsLogger] = (),
        callbacks: Sequence[RowCallback] = (),
    ):
        self.population, self._first_phase, self._make_online = population, population, make_online
        self.unit = "step" if make_online else population.unit  # the name of one step
        self._evaluator = evaluator if task else None
        self._task, self._preprocessing = task, preprocessing
        self._schedule, self._files, self._callbacks = schedule, files, callbacks
        self._checkpoints = Checkpoints(
            files.checkpoints, files.run_id, schedule.keep_checkpoints, schedule.handover
        )
        # With a hand-over at 0 the offline phase is empty, so the given policies are evaluated first.
        evaluates_first = schedule.handover == 0 or schedule.eval_at_start
        self.progress = Progress(evaluation_due=evaluator is not None and evaluates_first)
        try:
            resumed = self._checkpoints.resume_last_good(population.saved_shapes(), self._resume)
        except BaseException:
            self.population.close()  # that of the second phase, if it was made
            raise
        self._reported = set(self.population.diverged)
        saved: Mapping[str, bytes] = self._rows_of(resumed.step) if resumed else {}
        if self._evaluator:
            rows = csv.DictReader(saved.get(files.evaluations.name, b"").decode().splitlines())
            self._evaluator.tells_success = any(row.get("success_rate", "nan") != "nan" for row in rows)
        self._evaluation: BegunEvaluation | None = None
        self._evaluation_thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="evaluation")
        self._is_closing = False
        self._rows_after_it: list[tuple[Path, Progress, dict[str, list[float]], set[int]]] = []
        self.csv_files = [files.metrics, files.evaluations, files.episodes]
        if schedule.bellman_error_interval:
            self.csv_files.append(files.bellman_errors)
        names = [member.name for member in population.members]
        tensorboard = TensorBoardLogger(files.events, names, self.progress.step)
        self._rows = RowWriter(population.members, self.csv_files, [tensorboard, *loggers], saved)

    @property
    def finished(self) -> bool:
        return self.progress.step == self._schedule.max_steps and not self.progress.evaluation_due

    def run(self, stop: StopSignals, *, show_progress: bool, steps_per_call: int | None = None) -> None:
        """Trains until max_steps, or until a signal asks it to stop.

        If an environment fails, what was trained until then is saved before EnvironmentFailure is raised; if
        a stop was requested as well, the failure is only logged.
        `steps_per_call` are the most steps in one compiled call; None: about one second's worth.
        """
        schedule, last, call = self._schedule, self._schedule.max_steps, steps_per_call or 1
        self._stop, self._saved_at = stop, time.monotonic()
        self._pace = Pace(self.progress.step, last, self.unit)
        with progress_bar(last, self.unit, show_progress, self.progress.step) as self._bar:
            try:
                if self.progress.evaluation_due:
                    self._evaluate(again=self.progress.step > 0)  # at the start it is the first
                while self.progress.step < last and not stop.received:
                    stop.hold()
                    if self._make_online and self.progress.step == schedule.handover:
                        self.population, call = self._make_online(self._first_phase), steps_per_call or 1
                    self._compile()
                    if stop.received:
                        break
                    start, stride = self.progress.step, self.population.stride
                    end = min(start + max(1, call // stride) * stride, schedule.next_stop(start))
                    metrics, seconds = self._train(end)
                    if steps_per_call is None and metrics:  # short until it learns, which takes longer
                        call = int((end - start) * SECONDS_PER_CALL / seconds)
                    self._bar.update(end - self._bar.n)
                    self._do_what_is_due(end, metrics)
            except EnvironmentFailure as error:
                if self.progress.step:
                    self._save()
                if not stop.received:
                    raise
                LOG.warning(str(error))
            finally:
                self._checkpoints.wait()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Why the training ended matters more than an error while closing files.
        quietly = contextlib.suppress(UserError) if error else contextlib.nullcontext()
        with quietly, contextlib.ExitStack() as stack:  # closes the last first, and the others if one fails
            stack.callback(self.population.close)
            stack.callback(self._rows.close)
            stack.enter_context(self._checkpoints)
            stack.callback(self._evaluation_thread.shutdown)
            self._is_closing = True

    def _resume(self, items: dict[str, dict[str, State]], progress: Progress) -> None:
        if self.population is not self._first_phase:  # made for a later checkpoint, which was damaged
            self.population.close()
            self.population = self._first_phase
        if self._make_online and progress.step > (self._schedule.handover or 0):
            self.population = self._make_online(self._first_phase)
        self.progress = _without_an_early_end(progress, self._schedule)
        self.population.resume(items, self.progress)

    def _rows_of(self, step: int) -> dict[str, bytes]:
        """Returns the rows of a checkpoint, by file name, without those of a run that was to end there."""
        rows = self._checkpoints.logs(step)
        for file, interval in (
            (self._files.metrics, self._schedule.log_interval),
            (self._files.evaluations, self._schedule.eval_interval),
            (self._files.episodes, self._schedule.eval_interval),
        ):
            if 0 < step < self._schedule.max_steps and not self._schedule.is_multiple(step, interval):
                lines = rows.get(file.name, b"").splitlines(keepends=True)
                rows[file.name] = b"".join(line for line in lines if not line.startswith(b"%d," % step))
        return rows

    def _compile(self) -> None:
        if self.population.is_compiled:
            return
        LOG.info("compiling ...")
        before = self.population.compile_seconds
        compile_in_thread(self.population.compile, self._stop)
        LOG.info(f"compiled in {self.population.compile_seconds - before:.1f} s")
        self._pace.begin_at(self.progress.step)

    def _train(self, end: int) -> tuple[Metrics, float]:
        """Returns the last update's metrics, and the seconds that it took to come to this step."""
        began = time.perf_counter()
        try:
            metrics = self.population.advance(end)
        finally:  # if an environment failed, population.step is less than `end`
            seconds = time.perf_counter() - began
            seconds_of_all = self.progress.update_seconds + seconds
            self._change(step=self.population.step, update_seconds=seconds_of_all, evaluation_due=False)
        return metrics, seconds

    def _change(self, **changes: Any) -> None:
        self.progress = dataclasses.replace(self.progress, **changes)

    def _do_what_is_due(self, step: int, metrics: Metrics) -> None:
        """Logs, evaluates and saves, whatever is due after a call that ended at this step."""
        schedule, diverged = self._schedule, self.population.diverged
        self._report_divergences()
        if schedule.is_due(step, schedule.log_interval) and metrics:  # there are none before the first update
            self._log(metrics)
        if schedule.is_due(step, schedule.bellman_error_interval) and metrics:
            errors = {"error": self.population.bellman_errors()}  # type: ignore[attr-defined]  # as it acts
            self._rows.write_each(self._files.bellman_errors, self.progress, errors, diverged)
        if self._evaluator and schedule.is_due(step, schedule.eval_interval):
            self._evaluate()
            step = self.progress.step  # training may have gone back
        if self._bar.disable and step < schedule.max_steps and self._pace.has_been_silent():
            mean = np.mean(metrics.get("episode/return", np.nan))  # online, once one has ended
            news = f"episode return {mean:.1f}" if np.isfinite(mean) else ""
            LOG.info(self._pace.line(step, news))
        minutes = (time.monotonic() - self._saved_at) / 60
        is_late = 0 < schedule.checkpoint_minutes <= minutes
        if self._stop.received or is_late or schedule.is_due(step, schedule.checkpoint_interval):
            self._save()

    def _report_divergences(self) -> None:
        for index in sorted(self.population.diverged.keys() - self._reported):
            member, found = self.population.members[index], self.population.diverged[index]
            LOG.info(f"{member} diverged at {self.unit} {found.step} ({found.quantity} not finite)")
        self._reported |= self.population.diverged.keys()

    def _log(self, metrics: Metrics) -> None:
        if self._make_online:  # both phases have the same columns
            nan = jnp.full(len(self.population.members), jnp.nan)
            metrics = {**metrics, **{name: metrics.get(name, nan) for name in EPISODE_METRICS}}
        metrics = metrics | self.population.interval_means()
        columns = {name: np.asarray(metric, np.float64).tolist() for name, metric in metrics.items()}
        row = self._files.metrics, self.progress, columns, set(self.population.diverged)
        if self._evaluation:  # its rows come first
            self._rows_after_it.append(row)
        else:
            self._rows.write(*row)
        self._call_back(self.progress.step, columns)
        if self._schedule.is_multiple(self.progress.step, self._schedule.log_interval):
            self.population.begin_interval()

    def _call_back(self, step: int, columns: Mapping[str, Sequence[float]]) -> None:
        for callback in self._callbacks:
            callback(step, columns)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        # The rows of the evaluation that has begun belong into a checkpoint of a later step.
        if self._evaluation and self._evaluation.step < self.progress.step:
            went_back = self._finish_evaluation()
            if went_back and not self._stop.received:
                return
        if not self._evaluator and self.progress.step == self._schedule.max_steps:
            LOG.info(self._pace.line(self.progress.step))  # no evaluation logs the last step
        self._change(evaluation_due=self.progress.evaluation_due or self._evaluation is not None)
        self._checkpoints.save(self._snapshot())

    def _snapshot(self) -> Snapshot:
        snapshot = self.population.snapshot(self.progress)
        write_rows = self._rows.saving()
        self.progress = snapshot.progress

        def write_more(folder: Path) -> None:
            snapshot.write_more(folder)
            write_rows(folder)

        return snapshot._replace(write_more=write_more)

    def _evaluate(self, again: bool = False) -> None:
        """Evaluates the policies and writes one row per member, at once or while training goes on.

        At a signal it is abandoned, and the resumed run repeats it (`again`). So it is, once, if an
        environment fails: the same initial states may fail every time. If training has gone on meanwhile, it
        goes back to the evaluation's step.
        """
        if self._finish_evaluation():
            return
        in_background = self._schedule.background_evaluation and not again
        in_background &= self.progress.step < self._schedule.max_steps
        self._change(evaluation_due=True)
        self._evaluation = self._begin_evaluation(in_background)
        if not in_background:
            self._finish_evaluation(again)

    def _begin_evaluation(self, in_background: bool) -> BegunEvaluation:
        """Begins an evaluation of the policies as they are now.

        Asking for its results raises EvaluationInterrupted after a signal, or EnvironmentFailure.
        """
        assert self._evaluator is not None
        assert self._task is not None
        evaluator, task, stop = self._evaluator, self._task, self._stop
        snapshot = self._snapshot() if in_background else None
        not_finite: set[int] = set()
        policy = self.population.policy(not_finite.add, in_background)
        if self._preprocessing:
            policy = prepared(policy, self._preprocessing)

        def act(observations: np.ndarray) -> np.ndarray:
            if stop.received or self._is_closing:
                raise EvaluationInterrupted
            return policy(observations)

        def run() -> EpisodeResults:
            results = evaluator.run(with_memory_of(policy, act))
            if results.successes is None and task.suite.tells_success_late:  # it may tell it later
                results = dataclasses.replace(results, successes=np.full(results.returns.shape, np.nan))
            return results

        results = self._evaluation_thread.submit(run).result if in_background else run
        return BegunEvaluation(self.population.step, results, snapshot, not_finite)

    def _finish_evaluation(self, again: bool = False) -> bool:
        """Waits for the evaluation that has begun, if any, and writes its rows. True: training went back."""
        evaluation, self._evaluation = self._evaluation, None
        rows_after_it, self._rows_after_it = self._rows_after_it, []
        if evaluation is None:
            return False
        began, step = time.perf_counter(), evaluation.step
        try:
            results = evaluation.results()
        except (EvaluationInterrupted, EnvironmentFailure) as error:
            if evaluation.snapshot:
                self._go_back_to(evaluation.snapshot)
                self._checkpoints.save(evaluation.snapshot)
            if isinstance(error, EvaluationInterrupted):
                return True
            if again and self.progress.step < self._schedule.max_steps and not self._stop.received:
                self._change(evaluation_due=False)
                LOG.warning(f"{error}; the evaluation of step {step:,} failed twice, left out")
                return False
            raise
        seconds = self.progress.evaluation_seconds + time.perf_counter() - began
        found, diverged = evaluation.not_finite, self.population.diverged
        goes_back = any(index not in diverged or diverged[index].step > step for index in found)
        if goes_back and evaluation.snapshot:
            self._go_back_to(evaluation.snapshot)
        for index in found:
            self.population.diverged.setdefault(index, Divergence(step, "actions"))
        self._change(evaluation_seconds=seconds, evaluation_due=False)
        self._report_divergences()
        means = self._write_evaluation(step, results)
        if not goes_back:
            for row in rows_after_it:
                self._rows.write(*row)
        self._call_back(step, means)
        return goes_back

    def _go_back_to(self, snapshot: Snapshot) -> None:
        self.progress = snapshot.progress
        self.population.resume(snapshot.items, snapshot.progress)

    def _write_evaluation(self, step: int, results: EpisodeResults) -> Mapping[str, list[float]]:
        assert self._task is not None
        means, progress = results.means(self._task), dataclasses.replace(self.progress, step=step)
        steps = {index: found.step for index, found in self.population.diverged.items() if found.step <= step}
        diverged_at = [steps.get(index, "") for index in range(len(self.population.members))]
        self._rows.write_each(self._files.episodes, progress, results.columns(self._task))
        rows: dict[str, Sequence[float | str]] = {**means, "diverged_at": diverged_at}
        self._rows.write(self._files.evaluations, progress, rows, prefix="evaluation/")
        scores = np.array(means["score"])
        spread = f" ({shown(scores.min())} to {shown(scores.max())})" if len(scores) > 1 else ""
        news = f"{self._task.quantity} {shown(scores.mean())}{spread}"
        self._bar.set_postfix_str(news)
        LOG.info(self._pace.line(step, news, self.progress.step))
        return means


def _without_an_early_end(progress: Progress, schedule: Schedule) -> Progress:
    """Returns the progress of a run that was to end there as the longer run has it.

    The longer run has no evaluation there: none is due, and none has found a divergence.
    """
    step = progress.step
    if not 0 < step < schedule.max_steps or schedule.is_multiple(step, schedule.eval_interval):
        return progress
    found = {"step": step, "quantity": "actions"}
    members = {
        name: {**of_member, "diverged": None} if of_member["diverged"] == found else of_member
        for name, of_member in progress.members.items()
    }
    return dataclasses.replace(progress, evaluation_due=False, members=members)
