"""The training loop: it advances a trainer, and logs, evaluates and saves checkpoints in between."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.rollout.quantities import EpisodeResults
from xql_jax.rollout.scores import evaluation_in_words
from xql_jax.suites.tasks import Task
from xql_jax.training.checkpoints import Checkpoints, Items, Progress, Snapshot, TrainingFiles
from xql_jax.training.evaluations import Evaluations
from xql_jax.training.progress import progress_bar, speed_of
from xql_jax.training.row_writer import MetricsLogger, RowWriter
from xql_jax.training.schedule import Schedule
from xql_jax.training.signals import StopSignals
from xql_jax.training.trainer import EPISODE_METRICS, Trainer
from xql_jax.types import Metrics, State

LOG = logging.getLogger(__name__)
SECONDS_PER_CALL = 1.0  # of one compiled call; the progress bar and signals wait that long at most

# Called with the step and each quantity's numbers, one a member, after each row and evaluation.
RowCallback = Callable[[int, Mapping[str, Sequence[float]]], object]


class Trainers(NamedTuple):
    """What trains a run."""

    first: Trainer
    watches: tuple[RowCallback, ...] = ()  # warn of its values
    make_online: Callable[[Trainer], Trainer] | None = None  # in fine-tuning, for the second phase


@dataclasses.dataclass
class TrainingLoop(contextlib.AbstractContextManager):
    """A trainer's work, with its log files, evaluations and checkpoints. `resumed` makes one."""

    trainer: Trainer  # of the phase that goes on
    progress: Progress
    # The earlier step whose evaluation a stop cut short, and the states of its checkpoint.
    overdue: tuple[int, State] | None
    evaluated: int  # the last step that was evaluated; -1: none
    evaluations: Evaluations
    task: Task | None  # None for no evaluation
    schedule: Schedule
    files: TrainingFiles
    checkpoints: Checkpoints
    rows: RowWriter
    csv_files: Mapping[Path, int]  # the interval of each file's rows
    make_online: Callable[[Trainer], Trainer] | None
    callbacks: Sequence[RowCallback]

    def __post_init__(self) -> None:
        self._saved = self.progress.step  # of the last checkpoint; 0: none
        self._reported = set(self.trainer.population.diverged)
        self._rows_after_it: list[tuple[Path, Progress, dict[str, list[float]], set[int]]] = []

    @classmethod
    def resumed(
        cls,
        trainer: Trainer,
        evaluator: Evaluator | None,
        task: Task | None,
        schedule: Schedule,
        files: TrainingFiles,
        preprocessing: Preprocessing | None = None,
        make_online: Callable[[Trainer], Trainer] | None = None,
        loggers: Sequence[MetricsLogger] = (),
        callbacks: Sequence[RowCallback] = (),
    ) -> "TrainingLoop":
        """Returns the loop that goes on from the last good checkpoint in `files`, or begins if there is none.

        Args:
            evaluator, task: None for no evaluation.
            preprocessing: applied to observations and rewards before policies see them; None: unchanged.
            make_online: in fine-tuning, makes the trainer of the second phase, with the states of the first.
            loggers: get the numbers of the rows as TensorBoard does; closed at the end.
        """
        names, like = [member.name for member in trainer.population.members], trainer.saved_shapes()
        checkpoints = Checkpoints(
            files.checkpoints, files.run_id, schedule.keep_checkpoints, schedule.handover
        )

        def resume(items: Items, progress: Progress) -> tuple[Trainer, Progress, tuple[int, State] | None]:
            overdue = _overdue(progress, checkpoints, like, names, trainer.unit)
            return _going_on(trainer, make_online, schedule.handover or 0, items, progress), progress, overdue

        resumed = checkpoints.resume_last_good(like, names, resume)
        (going_on, progress, overdue), logs = resumed or ((trainer, Progress(), None), {})
        csv_files = _csv_files(files, schedule)
        with _closed_if_it_fails(going_on):
            all_loggers = [TensorBoardLogger(files.events, names, progress.step), *loggers]
            rows = RowWriter(trainer.population.members, csv_files, schedule, all_loggers, logs)
            evaluated = rows.rows_of(files.evaluations)
            if evaluator:
                rates = [row.results.get("success_rate", np.nan) for row in evaluated]
                evaluator.tells_success = not np.isnan(rates).all()
            evaluations = Evaluations(evaluator if task else None, task, preprocessing)
            return cls(
                going_on, progress, overdue if evaluator else None, evaluated[-1].step if evaluated else -1,
                evaluations, task, schedule, files, checkpoints, rows, csv_files, make_online, callbacks,
            )  # fmt: skip

    @property
    def unit(self) -> str:
        """The name of one step."""
        return "step" if self.make_online else self.trainer.unit

    @property
    def finished(self) -> bool:
        return self.progress.step == self.schedule.max_steps and not self._is_to_be_evaluated

    @property
    def _is_to_be_evaluated(self) -> bool:
        """Whether the rows of this step's evaluation are missing."""
        schedule, step = self.schedule, self.progress.step
        is_due = schedule.is_due(step, schedule.eval_interval)
        if step == 0:  # with a hand-over at 0 the policies that are given are evaluated
            is_due = schedule.handover == 0 or schedule.eval_at_start
        return self.evaluations.evaluator is not None and is_due and self.evaluated < step

    def run(self, stop: StopSignals, *, show_progress: bool) -> None:
        """Trains until max_steps, or until a signal asks it to stop.

        If an environment fails, what was trained until then is saved before EnvironmentFailure is raised; if
        a stop was requested as well, the failure is only logged.
        """
        schedule, last, call = self.schedule, self.schedule.max_steps, 1  # steps of a compiled call
        self._stop, self._saved_at, self._began_at = stop, time.monotonic(), self.progress.step
        with progress_bar(last, self.unit, show_progress, self.progress.step) as self._bar:
            try:
                self._do_what_is_missing()
                while self.progress.step < last and not stop.received:
                    stop.hold()
                    if self.make_online and self.progress.step == schedule.handover:
                        self.trainer, call = self.make_online(self.trainer), 1
                    if self.trainer.population.compile():
                        self._bar.unpause()
                    if stop.received:
                        break
                    start = self.progress.step
                    end = min(self.trainer.end_of_call(start, call), schedule.next_stop(start))
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
                self.checkpoints.wait()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # Why the training ended matters more than an error while closing files.
        quietly = contextlib.suppress(UserError) if error else contextlib.nullcontext()
        with quietly, contextlib.ExitStack() as stack:  # closes the last first, and the others if one fails
            stack.callback(self.trainer.close)
            stack.callback(self.rows.close)
            stack.enter_context(self.checkpoints)
            stack.callback(self.evaluations.close)

    def _train(self, end: int) -> tuple[Metrics, float]:
        """Returns the last update's metrics, and the seconds that it took to come to this step."""
        began = time.perf_counter()
        try:
            metrics = self.trainer.advance(end)
        finally:  # if an environment failed, trainer.step is less than `end`
            seconds = time.perf_counter() - began
            seconds_of_all = self.progress.update_seconds + seconds
            step = self.trainer.step
            self.progress = dataclasses.replace(self.progress, step=step, update_seconds=seconds_of_all)
        return metrics, seconds

    def _do_what_is_due(self, step: int, metrics: Metrics) -> None:
        """Tells of divergences; logs, evaluates and saves, whatever is due after a call that ended here."""
        schedule, diverged = self.schedule, self.trainer.population.diverged
        for index in sorted(diverged.keys() - self._reported):
            member, divergence = self.trainer.population.members[index], diverged[index]
            LOG.info(f"{member} diverged {divergence.when(self.unit)} ({divergence.quantity} not finite)")
        self._reported |= diverged.keys()
        if schedule.is_due(step, schedule.log_interval) and metrics:  # there are none before the first update
            self._log(metrics)
        for name, interval in schedule.measured.items():
            if schedule.is_due(step, interval) and metrics:
                columns = getattr(self.trainer, name)()
                self.rows.write_each(self.files.of(name), self.progress, columns, diverged)
        if self._is_to_be_evaluated:
            self._evaluate()
        minutes = (time.monotonic() - self._saved_at) / 60
        is_late = 0 < schedule.checkpoint_minutes <= minutes
        if self._stop.received or is_late or schedule.is_due(step, schedule.checkpoint_interval):
            self._save()

    def _log(self, metrics: Metrics) -> None:
        if self.make_online:  # both phases have the same columns
            nan = jnp.full(len(self.trainer.population.members), jnp.nan)
            metrics = {**metrics, **{name: metrics.get(name, nan) for name in EPISODE_METRICS}}
        metrics = metrics | self.trainer.population.interval_means()
        columns = {name: np.asarray(metric, np.float64).tolist() for name, metric in metrics.items()}
        row = self.files.metrics, self.progress, columns, set(self.trainer.population.diverged)
        self._rows_after_it.append(row)
        if self.evaluations.step is None:  # else its rows come first
            self._write_rows_after_it()
        self._call_back(self.progress.step, columns)
        if self.schedule.is_multiple(self.progress.step, self.schedule.log_interval):
            self.trainer.population.begin_interval()

    def _call_back(self, step: int, columns: Mapping[str, Sequence[float]]) -> None:
        for callback in self.callbacks:
            callback(step, columns)

    def _save(self) -> None:
        step, self._saved_at = self.progress.step, time.monotonic()
        if self._saved == step:
            return
        if not self._stop.received:  # which waits for nothing: the resumed run evaluates what is missing
            self._finish_evaluation()
        if not self.evaluations.evaluator and step == self.schedule.max_steps:
            LOG.info(f"{self.unit} {step:,}")  # no evaluation logs the last step
        self.checkpoints.save(self._snapshot())
        self._saved = step

    def _snapshot(self) -> Snapshot:
        due = self.evaluations.step or 0
        due = due if due < self.progress.step else 0
        snapshot = self.trainer.snapshot(dataclasses.replace(self.progress, evaluation_due=due))
        self._write_rows_after_it()
        write_rows = self.rows.saving()
        self.progress = snapshot.progress

        def write_more(folder: Path) -> None:
            snapshot.write_more(folder)
            write_rows(folder)

        return snapshot._replace(write_more=write_more)

    def _evaluate(self, again: bool = False) -> None:
        """Evaluates the policies of this step, and writes a row per member.

        With --background_evaluation training goes on meanwhile, from a checkpoint of this step. If a
        signal or a failing environment cuts the evaluation short, the resumed run repeats it first, from that
        checkpoint (`again`). If the environment fails then, too, the evaluation is left out, because the same
        initial states may fail again.
        """
        self._finish_evaluation()  # of an earlier step
        if self.evaluations.step is not None:
            return  # a signal came
        step = self.progress.step
        is_last = step == self.schedule.max_steps
        if not self.schedule.background_evaluation or again or is_last or not step:
            self._evaluate_now(step, self.trainer.population.states, may_fail=again and not is_last)
            return
        self._save()
        self._begin_evaluation(step, self.trainer.population.states, in_background=True)

    def _evaluate_now(self, step: int, states: State, may_fail: bool) -> None:
        self._begin_evaluation(step, states, in_background=False)
        self._finish_evaluation(may_fail)

    def _begin_evaluation(self, step: int, states: State, in_background: bool) -> None:
        # On the host wherever a thread may act, or an evaluation that is repeated would round differently.
        policy = self.trainer.policy(states, step, on_host=self.schedule.background_evaluation)
        self.evaluations.begin(step, policy, self._stop, in_background)

    def _do_what_is_missing(self) -> None:
        """Evaluates policies that a resumed run did not, of an earlier step and this step; or of step 0.

        A run that was to be longer, and now ends where it was stopped, also logs its last step.
        """
        if self.overdue:
            self._evaluate_now(*self.overdue, may_fail=True)
            self.overdue = None
        if self.progress.step == self.schedule.max_steps:
            rows = self.rows.rows_of(self.files.metrics)
            if not rows or rows[-1].step < self.progress.step:
                self._log(self.trainer.population.gathered(lambda members: members.metrics))
        if self._is_to_be_evaluated and not self._stop.received:
            self._evaluate(again=self.progress.step > 0)

    def _finish_evaluation(self, may_fail: bool = False) -> None:
        """Waits for the evaluation that has begun, if any, and writes its rows."""
        began, step = time.perf_counter(), self.evaluations.step
        try:
            results = self.evaluations.finish()
        except EnvironmentFailure as error:
            if not may_fail or self._stop.received or step is None:
                raise
            LOG.warning(f"{error}; the evaluation of step {step:,} failed twice, left out")
            self.evaluations.step, self.evaluated = None, step
            return
        if results is None or step is None:
            return
        seconds = self.progress.evaluation_seconds + time.perf_counter() - began
        self.progress = dataclasses.replace(self.progress, evaluation_seconds=seconds)
        means = self._write_evaluation(step, results)
        self.evaluations.step, self.evaluated = None, step
        self._write_rows_after_it()
        self._call_back(step, means)

    def _write_rows_after_it(self) -> None:
        rows, self._rows_after_it = self._rows_after_it, []
        for row in rows:
            self.rows.write(*row)

    def _write_evaluation(self, step: int, results: EpisodeResults) -> Mapping[str, list[float]]:
        assert self.task is not None
        not_finite = self.evaluations.not_finite
        means, progress = results.means(self.task), dataclasses.replace(self.progress, step=step)
        diverged = {index: divergence.step for index, divergence in self.trainer.population.diverged.items()}
        steps = dict.fromkeys(not_finite, step) | {at: of for at, of in diverged.items() if of <= step}
        diverged_at = [steps.get(index, "") for index in range(len(self.trainer.population.members))]
        self.rows.write_each(self.files.episodes, progress, results.columns(self.task))
        rows: dict[str, Sequence[float | str]] = {**means, "diverged_at": diverged_at}
        self.rows.write(self.files.evaluations, progress, rows, prefix="evaluation/")
        news = evaluation_in_words(means, self.task)
        self._bar.set_postfix_str(news, refresh=False)
        is_under_way = self._began_at < self.progress.step < self.schedule.max_steps
        speed = f", {speed_of(self._bar)}" if is_under_way else ""
        LOG.info(f"{self.unit} {step:,}: {news}{speed}")
        for index in sorted(not_finite - diverged.keys()):
            LOG.warning(
                f"{self.trainer.population.members[index]}: actions at {self.unit} {step:,} were not finite"
            )
        return means


def _overdue(
    progress: Progress, checkpoints: Checkpoints, like: Items, names: Sequence[str], unit: str
) -> tuple[int, State] | None:
    """Returns the earlier step whose evaluation a stop cut short, and the states of its checkpoint.

    Raises Damaged if a file of that checkpoint is: then the run goes on from an earlier one.
    """
    due = progress.evaluation_due
    if not 0 < due < progress.step:
        return None
    if due not in checkpoints.steps:  # an earlier version had the states in another place
        LOG.warning(f"the evaluation of {unit} {due:,} is left out: its checkpoint is not there")
        return None
    items, _ = checkpoints.read(due, like, names)
    return due, jax.device_put(items["states"])


def _going_on(
    trainer: Trainer,
    make_online: Callable[[Trainer], Trainer] | None,
    handover: int,
    items: Items,
    progress: Progress,
) -> Trainer:
    """Returns the trainer of the phase that the checkpoint is of, as it was then."""
    if not make_online or progress.step <= handover:
        trainer.resume(items, progress)  # stays open: if a file is damaged, it goes on from an earlier one
        return trainer
    online = make_online(trainer)
    with _closed_if_it_fails(online):
        online.resume(items, progress)
    return online


def _csv_files(files: TrainingFiles, schedule: Schedule) -> dict[Path, int]:
    """Returns the interval of the rows of each CSV file."""
    return {
        files.metrics: schedule.log_interval,
        files.evaluations: schedule.eval_interval,
        files.episodes: schedule.eval_interval,
        **{files.of(name): interval for name, interval in schedule.measured.items()},
    }


@contextlib.contextmanager
def _closed_if_it_fails(trainer: Trainer) -> Iterator[None]:
    try:
        yield
    except BaseException:
        trainer.close()
        raise
