"""The training loop: it advances a trainer, and logs, evaluates and saves checkpoints in between."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.rollout.evaluation import EpisodeResults, Evaluator
from xql_jax.rollout.scores import shown
from xql_jax.suites.tasks import Task
from xql_jax.training.checkpoints import DUE, Checkpoints, Items, Progress, Snapshot, TrainingFiles
from xql_jax.training.evaluations import Due, Evaluations
from xql_jax.training.progress import progress_bar, speed_of
from xql_jax.training.row_writer import MetricsLogger, RowWriter
from xql_jax.training.schedule import Schedule
from xql_jax.training.signals import StopSignals
from xql_jax.training.trainer import EPISODE_METRICS, Trainer
from xql_jax.types import Metrics

LOG = logging.getLogger(__name__)
SECONDS_PER_CALL = 1.0  # of one compiled call; the progress bar and signals wait that long at most

# Called with the step and each quantity's numbers, one a member, after each row and evaluation.
RowCallback = Callable[[int, Mapping[str, Sequence[float]]], object]


class TrainingLoop(contextlib.AbstractContextManager):
    """A trainer's work, with its log files, evaluations and checkpoints.

    Making one continues from the last good checkpoint in `files`, if there is one.

    Args:
        evaluator, task: None for no evaluation.
        preprocessing: applied to observations and rewards before the policies see them; None: unchanged.
        make_online: in fine-tuning, makes the trainer of the second phase, with the states of the first.
        loggers: get the numbers of the rows as TensorBoard does; closed at the end.
    """

    def __init__(
        self,
        trainer: Trainer,
        evaluator: Evaluator | None,
        task: Task | None,
        schedule: Schedule,
        files: TrainingFiles,
        preprocessing: Preprocessing | None = None,
        make_online: Callable[[Trainer], Trainer] | None = None,
        loggers: Sequence[MetricsLogger] = (),
        callbacks: Sequence[RowCallback] = (),
    ):
        self.trainer, self._first_phase, self._make_online = trainer, trainer, make_online
        self.unit = "step" if make_online else trainer.unit  # the name of one step
        self._task, self._schedule, self._files, self._callbacks = task, schedule, files, callbacks
        self._evaluations = Evaluations(evaluator if task else None, task, preprocessing)
        self._rows_after_it: list[tuple[Path, Progress, dict[str, list[float]], set[int]]] = []
        self._checkpoints = Checkpoints(
            files.checkpoints, files.run_id, schedule.keep_checkpoints, schedule.handover
        )
        self.progress, shapes = Progress(), trainer.saved_shapes()
        names, like = (
            [member.name for member in trainer.population.members],
            {**shapes, DUE: shapes["states"]},
        )
        try:
            saved = self._checkpoints.resume_last_good(like, names, self._resume)
        except BaseException:
            self.trainer.close()  # that of the second phase, if it was made
            raise
        self._reported = set(self.trainer.population.diverged)
        self.csv_files = {
            files.metrics: schedule.log_interval,
            files.evaluations: schedule.eval_interval,
            files.episodes: schedule.eval_interval,
            **{files.of(name): interval for name, interval in schedule.measured.items()},
        }
        loggers = [TensorBoardLogger(files.events, names, self.progress.step), *loggers]
        self._rows = RowWriter(trainer.population.members, self.csv_files, schedule, loggers, saved)
        rows = self._rows.rows_of(files.evaluations)
        self._evaluated = rows[-1].step if rows else -1  # the last step that was
        if evaluator:
            rates = [row.results.get("success_rate", np.nan) for row in rows]
            evaluator.tells_success = not np.isnan(rates).all()

    @property
    def finished(self) -> bool:
        return self.progress.step == self._schedule.max_steps and not self._is_to_be_evaluated

    @property
    def _is_to_be_evaluated(self) -> bool:
        """Whether the rows of this step's evaluation are missing."""
        schedule, step = self._schedule, self.progress.step
        is_due = schedule.is_due(step, schedule.eval_interval)
        if step == 0:  # with a hand-over at 0 the policies that are given are evaluated
            is_due = schedule.handover == 0 or schedule.eval_at_start
        return self._evaluations.evaluator is not None and is_due and self._evaluated < step

    def run(self, stop: StopSignals, *, show_progress: bool) -> None:
        """Trains until max_steps, or until a signal asks it to stop.

        If an environment fails, what was trained until then is saved before EnvironmentFailure is raised; if
        a stop was requested as well, the failure is only logged.
        """
        schedule, last, call = self._schedule, self._schedule.max_steps, 1  # steps of a compiled call
        self._stop, self._saved_at, self._began_at = stop, time.monotonic(), self.progress.step
        with progress_bar(last, self.unit, show_progress, self.progress.step) as self._bar:
            try:
                self._do_what_is_missing()
                while self.progress.step < last and not stop.received:
                    stop.hold()
                    if self._make_online and self.progress.step == schedule.handover:
                        self.trainer, call = self._make_online(self._first_phase), 1
                    if self.trainer.population.compile():
                        self._bar.unpause()
                    if stop.received:
                        break
                    start, stride = self.progress.step, self.trainer.stride
                    end = min(start + max(1, call // stride) * stride, schedule.next_stop(start))
                    metrics, seconds = self._train(end)
                    if metrics:  # short until it learns, which takes longer
                        call = int((end - start) * SECONDS_PER_CALL / seconds)
                    mean = np.mean(metrics.get("episode/return", np.nan))  # online, once one has ended
                    if np.isfinite(mean):
                        self._bar.set_postfix_str(f"episode return {mean:.1f}", refresh=False)
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
            stack.callback(self.trainer.close)
            stack.callback(self._rows.close)
            stack.enter_context(self._checkpoints)
            stack.callback(self._evaluations.close)

    def _resume(self, items: Items, progress: Progress) -> None:
        if self.trainer is not self._first_phase:  # made for a later checkpoint, which was damaged
            self.trainer.close()
            self.trainer = self._first_phase
        if self._make_online and progress.step > (self._schedule.handover or 0):
            self.trainer = self._make_online(self._first_phase)
        self.progress = progress
        self.trainer.resume(items, progress)
        if DUE in items and self._evaluations.evaluator:
            self._evaluations.due = Due(progress.evaluation_due, jax.device_put(items[DUE]))

    def _train(self, end: int) -> tuple[Metrics, float]:
        """Returns the last update's metrics, and the seconds that it took to come to this step."""
        began = time.perf_counter()
        try:
            metrics = self.trainer.advance(end)
        finally:  # if an environment failed, trainer.step is less than `end`
            seconds = time.perf_counter() - began
            seconds_of_all = self.progress.update_seconds + seconds
            self._change(step=self.trainer.step, update_seconds=seconds_of_all)
        return metrics, seconds

    def _change(self, **changes: Any) -> None:
        self.progress = dataclasses.replace(self.progress, **changes)

    def _do_what_is_due(self, step: int, metrics: Metrics) -> None:
        """Tells of divergences; logs, evaluates and saves, whatever is due after a call that ended here."""
        schedule, diverged = self._schedule, self.trainer.population.diverged
        for index in sorted(diverged.keys() - self._reported):
            member, found = self.trainer.population.members[index], diverged[index]
            LOG.info(f"{member} diverged at {self.unit} {found.step} ({found.quantity} not finite)")
        self._reported |= diverged.keys()
        if schedule.is_due(step, schedule.log_interval) and metrics:  # there are none before the first update
            self._log(metrics)
        for name, interval in schedule.measured.items():
            if schedule.is_due(step, interval) and metrics:
                columns = getattr(self.trainer, name)()
                self._rows.write_each(self._files.of(name), self.progress, columns, diverged)
        if self._is_to_be_evaluated:
            self._evaluate()
        minutes = (time.monotonic() - self._saved_at) / 60
        is_late = 0 < schedule.checkpoint_minutes <= minutes
        if self._stop.received or is_late or schedule.is_due(step, schedule.checkpoint_interval):
            self._save()

    def _log(self, metrics: Metrics) -> None:
        if self._make_online:  # both phases have the same columns
            nan = jnp.full(len(self.trainer.population.members), jnp.nan)
            metrics = {**metrics, **{name: metrics.get(name, nan) for name in EPISODE_METRICS}}
        metrics = metrics | self.trainer.population.interval_means()
        columns = {name: np.asarray(metric, np.float64).tolist() for name, metric in metrics.items()}
        row = self._files.metrics, self.progress, columns, set(self.trainer.population.diverged)
        self._rows_after_it.append(row)
        if not self._evaluations.due:  # whose rows come first
            self._write_rows_after_it()
        self._call_back(self.progress.step, columns)
        if self._schedule.is_multiple(self.progress.step, self._schedule.log_interval):
            self.trainer.population.begin_interval()

    def _call_back(self, step: int, columns: Mapping[str, Sequence[float]]) -> None:
        for callback in self._callbacks:
            callback(step, columns)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if not self._stop.received:  # a checkpoint has the rows of all evaluations before it
            self._finish_evaluation()
        if not self._evaluations.evaluator and self.progress.step == self._schedule.max_steps:
            LOG.info(f"{self.unit} {self.progress.step:,}")  # no evaluation logs the last step
        self._checkpoints.save(self._snapshot())

    def _snapshot(self) -> Snapshot:
        due = self._evaluations.due
        late = {DUE: due.states} if due and due.step < self.progress.step else {}
        self._change(evaluation_due=due.step if due else 0)
        snapshot = self.trainer.snapshot(self.progress)
        self._write_rows_after_it()
        write_rows = self._rows.saving()
        self.progress = snapshot.progress

        def write_more(folder: Path) -> None:
            snapshot.write_more(folder)
            write_rows(folder)

        return snapshot._replace(items={**snapshot.items, **late}, write_more=write_more)

    def _evaluate(self, due: Due | None = None, again: bool = False) -> None:
        """Evaluates policies, those of this step if none are due, and writes a row per member.

        With --background_evaluation training goes on meanwhile. What a signal or a failing environment cuts
        short, the resumed run does first (`again`). If the environment fails then, too, the evaluation is
        left out: the same initial states may fail every time.
        """
        self._finish_evaluation()  # that of an earlier step
        if self._evaluations.due and not due:
            return  # a signal came
        is_last = self.progress.step == self._schedule.max_steps
        in_background = self._schedule.background_evaluation and not again and not is_last
        due = due or Due(self.progress.step, self.trainer.population.states)
        # Always where the thread acts, or an evaluation that is repeated would round differently.
        on_host = self._schedule.background_evaluation
        policy = self.trainer.policy(due.states, due.step, on_host)
        self._evaluations.begin(due, policy, self._stop, in_background)
        if not in_background:
            self._finish_evaluation(may_fail=again and not is_last)

    def _do_what_is_missing(self) -> None:
        """Evaluates what a resumed run has not, of an earlier step and of this one; and before the first.

        If it was to be longer, and ends where it was stopped, it logs the last step.
        """
        if due := self._evaluations.due:
            self._evaluate(due, again=True)
        if self.progress.step == self._schedule.max_steps:
            rows = self._rows.rows_of(self._files.metrics)
            if not rows or rows[-1].step < self.progress.step:
                self._log(self.trainer.population.gathered(lambda members: members.metrics))
        if self._is_to_be_evaluated and not self._stop.received:
            self._evaluate(again=self.progress.step > 0)

    def _finish_evaluation(self, may_fail: bool = False) -> None:
        """Waits for the evaluation that has begun, if any, and writes its rows."""
        began, due = time.perf_counter(), self._evaluations.due
        try:
            results = self._evaluations.finish()
        except EnvironmentFailure as error:
            if not may_fail or self._stop.received or not due:
                raise
            LOG.warning(f"{error}; the evaluation of step {due.step:,} failed twice, left out")
            self._evaluations.due, self._evaluated = None, due.step
            return
        if results is None or due is None:
            return
        seconds = self.progress.evaluation_seconds + time.perf_counter() - began
        self._change(evaluation_seconds=seconds)
        means = self._write_evaluation(due.step, results)
        self._write_rows_after_it()
        self._call_back(due.step, means)

    def _write_rows_after_it(self) -> None:
        rows, self._rows_after_it = self._rows_after_it, []
        for row in rows:
            self._rows.write(*row)

    def _write_evaluation(self, step: int, results: EpisodeResults) -> Mapping[str, list[float]]:
        assert self._task is not None
        not_finite = self._evaluations.not_finite
        means, progress = results.means(self._task), dataclasses.replace(self.progress, step=step)
        diverged = {index: found.step for index, found in self.trainer.population.diverged.items()}
        steps = dict.fromkeys(not_finite, step) | {at: of for at, of in diverged.items() if of <= step}
        diverged_at = [steps.get(index, "") for index in range(len(self.trainer.population.members))]
        self._rows.write_each(self._files.episodes, progress, results.columns(self._task))
        rows: dict[str, Sequence[float | str]] = {**means, "diverged_at": diverged_at}
        self._rows.write(self._files.evaluations, progress, rows, prefix="evaluation/")
        self._evaluations.due, self._evaluated = None, step
        scores = np.array(means["score"])
        spread = f" ({shown(scores.min())} to {shown(scores.max())})" if len(scores) > 1 else ""
        news = f"{self._task.quantity} {shown(scores.mean())}{spread}"
        rate = np.mean(means.get("success_rate", np.nan))  # NaN, too, until an environment of one's own tells
        news += "" if np.isnan(rate) else f", success {rate:.1%}"
        self._bar.set_postfix_str(news, refresh=False)
        is_under_way = self._began_at < self.progress.step < self._schedule.max_steps
        speed = f", {speed_of(self._bar)}" if is_under_way else ""
        LOG.info(f"{self.unit} {step:,}: {news}{speed}")
        for index in sorted(not_finite - diverged.keys()):
            LOG.warning(
                f"{self.trainer.population.members[index]}: actions at {self.unit} {step:,} were not finite"
            )
        return means
