"""What all runs are: opened, run once, and closed whatever happens. They print nothing; they log."""

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import jax
from ml_collections import ConfigDict

from xql_jax.configuration import learner_from_config
from xql_jax.envs import Suite
from xql_jax.errors import UserError
from xql_jax.evaluation.rollout import Evaluator
from xql_jax.files import writing
from xql_jax.logs.csv_reader import Row, parse_rows
from xql_jax.reports.plots import plot_learning_curve
from xql_jax.reports.summary import summarize
from xql_jax.runs.folder import RunFolder, rows_digest
from xql_jax.runs.provenance import settings_of_jax
from xql_jax.runs.record import open_record
from xql_jax.tasks import Task
from xql_jax.training.loop import Schedule, TrainingLoop
from xql_jax.training.members import Member, make_members, parse_sweep
from xql_jax.training.signals import StopSignals

EVALUATION_SEED = 10_000  # of the episodes' starts: the same for every member, evaluation and run


class Run(contextlib.AbstractContextManager, ABC):
    """Used as `with OfflineRun(settings) as run: summary = run.run()`.

    Raises:
        UserError: on entering, if a setting or the data is unfit; nothing of an earlier run is touched then.
    """

    def __init__(self, settings: Any):  # of its kind, see `runs.settings`
        self.settings = settings
        self.resources = contextlib.ExitStack()  # closed at the end, the last first

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as unless_opened:
            unless_opened.enter_context(self.resources)
            self.resources.enter_context(settings_of_jax())
            self.open()
            unless_opened.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.resources.__exit__(*exception)

    @abstractmethod
    def open(self) -> None:
        """Makes ready all that `run` needs."""

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Does the work and returns its summary."""


class TrainingRun(Run):
    """A training in its folder. A kind of training fills the holes.

    Attributes:
        folder: its files.
        stop: ends it in good order, from a signal or by `stop.request()`.
        evaluations: its rows, once it has run.
        had_ended: it was there and finished, and nothing was done.
    """

    unit: str  # of its steps
    folder: RunFolder
    members: list[Member]

    def __init__(self, settings: Any):
        super().__init__(settings)
        self.config: ConfigDict = settings.config.copy_and_resolve_references()
        self.schedule: Schedule = settings.schedule
        self.stop = StopSignals()
        self.evaluations: list[Row] = []
        self.had_ended = False
        self.task: Task | None = None
        self.evaluator: Evaluator | None = None

    @abstractmethod
    def population(self) -> Any:
        """Makes what is trained, and says what it is."""

    @abstractmethod
    def loop(self, population: Any) -> TrainingLoop:
        """Makes its training, gone on with from the last checkpoint."""

    @abstractmethod
    def details(self, population: Any) -> dict[str, Any]:
        """Returns what the summary says of this kind of training."""

    def draw(self, population: Any) -> None:
        """Draws what a finished run leaves: here its learning curve."""
        if self.task and self.evaluator and self.evaluations:
            curve = self.folder.path / "learning_curve.png"
            with writing(curve):
                title = f"{self.config.algorithm} on {self.task.name}"
                plot_learning_curve(self.evaluations, title, curve, f"{self.unit}s")

    def run(self) -> dict[str, Any]:
        """Trains, evaluates and reports. Returns what is in summary.json."""
        if self.settings.resume and (finished := self.folder.finished_summary()):
            self.had_ended = True
            self.evaluations = open_record(self.folder.path).rows(self.folder.files.evaluations)
            return finished
        with self.folder.opened(self.settings.resume), _lack_of_memory_told():
            population = self.population()
            with contextlib.ExitStack() as stack:
                stack.callback(population.close)
                training = stack.enter_context(self.loop(population))
                with self.stop:
                    training.run(self.stop, show_progress=self.settings.show_progress)
            self.evaluations = self._rows(training)
            summary = self._summary(training) | self.details(population)
            if training.finished:  # who stops a run does not wait for pictures
                self.draw(population)
            return self.folder.write_summary(summary)  # last: its "finished" says that all else is there

    def _rows(self, training: TrainingLoop) -> list[Row]:
        file = self.folder.files.evaluations
        return parse_rows(b"".join(training.logs[file].rows()), self.folder.columns, file)

    def make_members(self) -> None:
        """Makes the learner, and its members by the seeds and the sweep, once the config is resolved."""
        self.learner = learner_from_config(self.config, self.schedule.max_steps)
        grid = parse_sweep(self.settings.sweep, self.learner, self.config.algorithm)
        self.members = make_members(self.settings.seeds, grid)

    def make_evaluator(self, task: Task, suite: Suite) -> None:
        """Has the members evaluated on the task, if episodes are asked for."""
        if episodes := self.settings.eval_episodes:
            self.evaluator = Evaluator(task, len(self.members), episodes, EVALUATION_SEED, suite=suite)
            self.resources.callback(self.evaluator.close)

    @property
    def shared_identity(self) -> dict[str, Any]:
        """What its numbers depend on whatever the kind of training."""
        settings = self.settings
        config = {name: value for name, value in self.config.to_dict().items() if name != "about"}
        return {
            "env_name": self.task.name if self.task else None,
            "config": config,
            "seeds": [settings.seeds[0], settings.seeds[-1]],
            "sweep": settings.sweep,
            "max_steps": self.schedule.max_steps,
            "log_interval": self.schedule.log_interval,
            "eval_interval": self.schedule.eval_interval,
            "eval_episodes": settings.eval_episodes,
            "evaluation_seed": EVALUATION_SEED,
        }

    def make_folder(self, name: str, **identity: Any) -> None:
        """Names the run's folder by its identity: all that its numbers depend on, `shared_identity` in it."""
        settings = self.settings
        save_dir, algorithm = Path(settings.save_dir).expanduser(), self.config.algorithm
        self.folder = RunFolder(save_dir, name, algorithm, settings.seeds, self.members, identity)

    def _summary(self, training: TrainingLoop) -> dict[str, Any]:
        """What every run's summary.json holds; times in seconds."""
        population, progress = training.population, training.progress
        seconds = {
            "compile": population.compile_seconds,
            "update": progress.update_seconds,
            "evaluation": progress.evaluation_seconds,
        }
        steps = progress.step * len(self.members)
        return {
            "status": "finished" if training.finished else "interrupted",
            "env_name": self.folder.env_name,
            "algorithm": self.config.algorithm,
            "step": progress.step,
            "results": summarize(self.evaluations),
            "diverged": [
                {"member": str(self.members[index]), **dataclasses.asdict(divergence)}
                for index, divergence in population.diverged.items()
            ],
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            f"{self.unit}s_per_second": round(steps / progress.update_seconds, 1) if steps else None,
            "logs": {path.name: rows_digest(path) for path in training.logs},
        }


@contextlib.contextmanager
def _lack_of_memory_told() -> Iterator[None]:
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "not enough memory: give fewer members, smaller batches or, offline, --data_on=host or "
            f"--data_on=disk ({str(error)[:200]})"
        ) from error
