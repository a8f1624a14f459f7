"""The loop of a training: steps of what is trained, and between them logs, evaluations and checkpoints."""

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from xql_jax.evaluation.rollout import Act, Evaluator
from xql_jax.logs.csv_logger import CSVLogger
from xql_jax.logs.tensorboard import TensorBoardLogger
from xql_jax.tasks import Task
from xql_jax.training.checkpoint import Checkpoints, Progress
from xql_jax.training.population import Divergence, Member
from xql_jax.training.run_folder import RunFolder
from xql_jax.training.signals import StopSignals
from xql_jax.types import Metrics, State

EVALUATION_SEED = 10_000  # of the episodes' starts: the same for every member, evaluation and run
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


class Trainee(Protocol):
    """What the loop trains: a population that learns from a dataset, or from environments that it acts in."""

    unit: str  # what a step is, in words
    stride: int  # it stops after multiples of so many steps only, as must all intervals of the schedule
    members: list[Member]
    step: int

    @property
    def diverged(self) -> dict[int, Divergence]:
        """By the member's index."""
        ...

    @property
    def states(self) -> State:
        """The members' states, [M, ...]."""
        ...

    def advance(self, stop: int) -> Metrics:
        """Goes on to the step `stop`; returns its last update's metrics, each f32[M]; without one none."""
        ...

    def policy(self) -> Act:
        """The members' deterministic policies as they are now; they serve until the next `advance`."""
        ...

    def resume(self, states: State, progress: Progress) -> None:
        """Goes on from what a checkpoint holds.

        Raises:
            Damaged: if what is to be read beside it is damaged; then it may be called for an older one.
        """
        ...

    def saving(self) -> tuple[Mapping[str, Any], Callable[[], None]]:
        """What a checkpoint of now is to hold beside the states: for JSON, and a writer of all else.

        The writer is called in the checkpoints' thread while the training goes on.
        """
        ...


class _Interrupted(Exception):
    """A signal came during an evaluation."""


T = TypeVar("T", bound=Trainee)


class TrainingLoop(Generic[T]):
    """A population's training run in its folder.

    Resumed, it writes the rows that an unbroken one would, but online, where episodes begin again.

    Args:
        evaluator, task: None for no evaluation.
        recordings: beside the logs and evaluations, in the run's folder.
    """

    def __init__(
        self,
        population: T,
        evaluator: Evaluator | None,
        task: Task | None,
        schedule: Schedule,
        folder: RunFolder,
        recordings: Sequence[Recording] = (),
    ):
        self.population = population
        self._evaluator = evaluator
        self._task = task
        self._schedule = schedule
        self._checkpoints = Checkpoints(folder.path / "checkpoints")
        self.progress = self._checkpoints.resume_last_good(population.states, population.resume) or Progress()
        self._reported = set(population.diverged)
        step = self.progress.step
        self._metrics_csv = CSVLogger(folder.metrics, step)
        self._evaluations_csv = CSVLogger(folder.evaluations, step - self.progress.evaluation_due)
        self._recordings = [(recording, CSVLogger(recording.path, step)) for recording in recordings]
        names = [str(member).replace(", ", "_").replace(" ", "") for member in population.members]
        self._tensorboard = TensorBoardLogger(folder.path / "tb", names, step)

    @property
    def finished(self) -> bool:
        return self.progress.step == self._schedule.max_steps and not self.progress.evaluation_due

    def run(self, *, show_progress: bool, steps_per_call: int | None = None) -> signal.Signals | None:
        """Trains until max_steps or a signal, and returns the signal.

        Args:
            show_progress: draw a bar, if stderr is a terminal.
            steps_per_call: the most in one call, a multiple of the stride; None for about a second's worth.
        """
        schedule, population = self._schedule, self.population
        recorded = [recording.interval for recording, _ in self._recordings]
        call = steps_per_call or max(population.stride, 100 // population.stride * population.stride)
        self._saved_at, self._said_at = time.monotonic(), -math.inf
        bar = tqdm(
            total=schedule.max_steps,
            initial=self.progress.step,
            unit=f" {population.unit}s",
            disable=None if show_progress else True,
        )
        with StopSignals() as signals, bar:
            try:
                if self.progress.evaluation_due:
                    self._evaluate(signals, bar)
                while self.progress.step < schedule.max_steps and not signals.received:
                    start = self.progress.step
                    stop = min(start + call, schedule.next_stop(start, *recorded))
                    began = time.perf_counter()
                    metrics = population.advance(stop)
                    seconds = time.perf_counter() - began
                    if steps_per_call is None:
                        strides = int((stop - start) * SECONDS_PER_CALL / seconds) // population.stride
                        call = max(1, strides) * population.stride
                    self._advance_progress(step=stop, update_seconds=self.progress.update_seconds + seconds)
                    self._report_divergences()
                    bar.update(stop - start)
                    if schedule.is_due(stop, schedule.log_interval):
                        self._log(metrics)
                    self._record()
                    if self._evaluator and schedule.is_due(stop, schedule.eval_interval):
                        self._evaluate(signals, bar)
                    if self._checkpoint_is_due() or signals.received:
                        self._save()
            finally:
                self._checkpoints.wait()
        return signals.received

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
            tqdm.write(
                f"{self.population.unit} {self.progress.step:,}"
            )  # where evaluations' lines do not tell
        held, write = self.population.saving()
        self._advance_progress(held=held)

        def write_the_rest() -> None:
            write()
            self._sync_logs()

        self._checkpoints.save(self.population.states, self.progress, write_the_rest)

    def _sync_logs(self) -> None:
        """In the checkpoints' thread: what was written before a checkpoint is on the disk before it."""
        self._metrics_csv.sync()
        self._evaluations_csv.sync()
        for _, csv in self._recordings:
            csv.sync()
        self._tensorboard.flush()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # the checkpoints first, all of them even if one fails
            files = (self._evaluations_csv, self._metrics_csv, *(csv for _, csv in self._recordings))
            for close in (self._tensorboard.close, *(csv.close for csv in files), self._checkpoints.close):
                stack.callback(close)

    def _advance_progress(self, **changes: Any) -> None:
        diverged = {str(i): dataclasses.asdict(d) for i, d in self.population.diverged.items()}
        self.progress = dataclasses.replace(self.progress, diverged=diverged, **changes)

    def _report_divergences(self) -> None:
        for index in sorted(set(self.population.diverged) - self._reported):
            divergence = self.population.diverged[index]
            tqdm.write(
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
        for recording, csv in self._recordings:
            if not self._schedule.is_due(self.progress.step, recording.interval):
                continue
            for index, numbers in enumerate(recording.measure()):
                if index not in self.population.diverged:
                    for number in numbers.tolist():
                        csv.write({**self._row_start(index), recording.column: number})

    def _evaluate(self, signals: StopSignals, bar: tqdm) -> None:
        """Evaluates and writes a row a member; or, at a signal, leaves that to the resumed run."""
        assert self._evaluator is not None
        assert self._task is not None
        policy = self.population.policy()

        def act(observations: np.ndarray) -> np.ndarray:
            if signals.received:
                raise _Interrupted
            return policy(observations)

        began = time.perf_counter()
        try:
            results = self._evaluator.run(act)
        except _Interrupted:
            self._advance_progress(evaluation_due=True)
            return
        seconds = self.progress.evaluation_seconds + time.perf_counter() - began
        self._advance_progress(evaluation_seconds=seconds, evaluation_due=False)
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
            diverged = {"diverged_at": divergence.step if divergence else ""}
            self._evaluations_csv.write({**self._row_start(index), **scalars, **diverged, **self._row_end()})
            scalars = {f"evaluation/{name}": value for name, value in scalars.items()}
            self._tensorboard.write(index, self.progress.step, scalars)
        spread = f" ({scores.min():.1f} to {scores.max():.1f})" if len(scores) > 1 else ""
        bar.set_postfix_str(f"score {scores.mean():.1f}{spread}")
        tqdm.write(f"{self.population.unit} {self.progress.step:,}: score {scores.mean():.1f}{spread}")

    def _row_start(self, index: int) -> Mapping[str, Any]:
        member = self.population.members[index]
        return {"step": self.progress.step, "seed": member.seed, **member.hyperparameters}

    def _row_end(self) -> Mapping[str, float]:
        return {"seconds": round(self.progress.update_seconds + self.progress.evaluation_seconds, 3)}
