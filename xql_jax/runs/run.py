"""Base classes of all runs. A run is opened, runs once, and is always closed; it logs but does not print."""

import contextlib
import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import jax
from ml_collections import ConfigDict

from xql_jax.configuration import learner_from_config
from xql_jax.data.dataset import checked_references
from xql_jax.envs import Simulation, Suite
from xql_jax.envs.fidelity import describe_environment
from xql_jax.errors import UserError
from xql_jax.files import writing
from xql_jax.learners.descriptions import LEADING
from xql_jax.logs.csv_reader import Row, parse_rows
from xql_jax.reports.plots import plot_learning_curve
from xql_jax.reports.summary import summarize
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.folder import RunFolder, rows_digest
from xql_jax.runs.labels import run_label
from xql_jax.runs.load import load_run
from xql_jax.runs.provenance import settings_of_jax
from xql_jax.runs.settings import EVALUATION_SEED
from xql_jax.tasks import References, Task, referenced
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.members import Member, fields_given, make_members, parse_sweep
from xql_jax.training.schedule import Schedule
from xql_jax.training.signals import StopSignals
from xql_jax.training.trainable import Trainable

LOG = logging.getLogger(__name__)


class Run(contextlib.AbstractContextManager, ABC):
    """A job; use it as `with OfflineRun(settings) as run: summary = run.run()`.

    Raises:
        UserError: on entering, if a setting or the data are invalid. Earlier runs are not changed then.
    """

    def __init__(self, settings: Any):  # of the run's kind, see `runs.settings`
        self.settings = settings
        self.resources = contextlib.ExitStack()  # closed at the end, the latest first

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
        """Prepares everything that `run` needs."""

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Does the work and returns its summary."""


class TrainingRun(Run):
    """A training with its folder; subclasses for the kinds of training implement the abstract methods.

    Attributes:
        folder: of its files.
        stop: stops it after saving a checkpoint, at a signal or by `stop.request()`.
        evaluations: the rows of evaluations.csv, after `run`.
        had_ended: the run had finished before, so `run` did nothing.
    """

    unit: str  # the name of one step
    folder: RunFolder
    members: list[Member]  # one per seed and setting of the swept hyperparameters

    def __init__(self, settings: Any):
        super().__init__(settings)
        self.stop = StopSignals()
        self.evaluations: list[Row] = []
        self.had_ended = False
        self.task: Task | None = None
        self.references: References | None = None  # if the task is not scored by its own
        self.evaluator: Evaluator | None = None

    @abstractmethod
    def resolve(self) -> None:
        """Decides what the settings leave open, without reading data or making environments."""

    @property
    def simulation(self) -> Simulation:
        """Which environments of the task it uses."""
        return getattr(self.settings, "simulation", Simulation())

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that its numbers depend on, except the data's content; valid after `resolve`."""
        return self.settings.identity

    @property
    def config(self) -> ConfigDict:
        """The hyperparameters."""
        return self.settings.config

    @property
    def schedule(self) -> Schedule:
        """The schedule of the whole training."""
        return self.settings.schedule

    @abstractmethod
    def population(self) -> Trainable:
        """Makes the population that is trained, and logs a description."""

    @abstractmethod
    def loop(self, population: Any) -> TrainingLoop:
        """Makes the population's training loop, which continues from the last checkpoint if there is one."""

    def details(self, population: Any) -> dict[str, Any]:
        """Returns the entries of the summary that are specific to this kind of training; here none."""
        return {}

    @property
    def request(self) -> str:
        """A line that describes the requested training; available before anything is opened."""
        seeds = self.settings.seeds
        return f"{self.config.algorithm}: {self.schedule.max_steps:,} {self.unit}s, " + (
            f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        )

    @property
    def leading_settings(self) -> str:
        """The most important settings, and those given on the command line, as text."""
        values = {**self.identity["config"], **self.identity}
        names = (*LEADING, *sorted(self.settings.given & set(self.config)))
        told = {name: values[name] for name in names if values.get(name) is not None}
        swept = dict(fields_given(self.settings.sweep))
        return " ".join(f"{name}={swept.get(name, _short(value))}" for name, value in (swept | told).items())

    def draw(self, population: Trainable) -> None:
        """Draws the pictures of a finished run: here the learning curve."""
        if self.task and self.evaluator and self.evaluations:
            curve = self.folder.path / "learning_curve.png"
            with writing(curve):
                title = f"{self.config.algorithm} on {self.task.name}"
                handover = self.schedule.handover
                quantity = "normalised score" if self.task.is_normalised else "return"
                plot_learning_curve(self.evaluations, title, curve, f"{self.unit}s", handover, quantity)

    def run(self) -> dict[str, Any]:
        """Trains, evaluates and writes the results; returns the content of summary.json."""
        if self.settings.resume and (finished := self.folder.finished_summary()):
            self.had_ended = True
            self.evaluations = load_run(self.folder.path).rows(self.folder.files.evaluations)
            return finished
        with _lack_of_memory_told(), self.folder.opened(self.settings.resume):
            LOG.info(f"settings: {self.leading_settings}; --print_config tells all")
            population = self.population()
            with contextlib.ExitStack() as stack:
                stack.callback(population.close)
                training = stack.enter_context(self.loop(population))
                if step := training.progress.step:
                    LOG.info(f"resuming from {self.unit} {step:,} of {self.schedule.max_steps:,}")
                self.folder.forget_stop()  # only now, so a run that cannot be resumed keeps it
                with self.stop:
                    training.run(self.stop, show_progress=self.settings.tqdm)
            diverged = [
                {"member": str(population.members[index]), **dataclasses.asdict(divergence)}
                for index, divergence in population.diverged.items()
            ]
            return self._finish(training, diverged)

    def _finish(self, training: TrainingLoop, diverged: list[dict[str, Any]]) -> dict[str, Any]:
        """Writes the pictures and the summary; returns the summary."""
        population = training.population
        self.evaluations = self._rows(training)
        summary = self._summary(training, diverged) | self.details(population)
        if training.finished:  # an interrupted run skips the pictures
            self.draw(population)
        return self.folder.write_summary(summary)  # written last: "finished" means that all else exists

    def _rows(self, training: TrainingLoop) -> list[Row]:
        file = self.folder.files.evaluations
        return parse_rows(b"".join(training.logs[file].rows()), self.folder.columns, file)

    def make_members(self, updates: float) -> None:
        """Makes the learner and the members; the config must be resolved.

        Args:
            updates: the number of updates after which decaying learning rates reach 0; inf: no decay.
        """
        self.learner = learner_from_config(self.config, updates)
        grid = parse_sweep(self.settings.sweep, self.learner, self.config.algorithm)
        if twice := [name for name in grid if name in self.settings.given]:
            raise UserError(f"--config.{twice[0]}: --sweep varies {twice[0]}, too: leave out one of them")
        self.members = make_members(self.settings.seeds, grid)

    def scored(self, task: Task, of_data: References | None = None) -> Task:
        """Returns the task with the user's reference returns, else the data's; sets `references` to them.

        If the task has its own, or there are none, the task is returned as it is.

        Raises:
            UserError: if the user gives references although the task has its own, gives only one, or gives
                some that are not finite or not ascending.
        """
        given = self.settings.random_return, self.settings.expert_return
        if given != (None, None):
            if None in given:
                raise UserError("--random_return and --expert_return: give both or none")
            of_data = checked_references(*given, "--random_return and --expert_return")
            if referenced(task, of_data) is task:
                raise UserError(f"--random_return: {task.name} has references of its own")
        scored = referenced(task, of_data)
        if scored is not task:
            self.references = of_data
            LOG.info(f"score 0 is a return of {scored.min_return:g}, 100 of {scored.max_return:g}")
        return scored

    def make_evaluator(self, task: Task, suite: Suite) -> None:
        """Makes the members' evaluator, unless --eval_episodes is 0."""
        if episodes := self.settings.eval_episodes:
            self.evaluator = Evaluator(task, len(self.members), episodes, EVALUATION_SEED, suite=suite)
            self.resources.callback(self.evaluator.close)

    def make_folder(
        self, name: str, sizes: tuple[int, int], about: Mapping[str, Any] | None = None, **identity: Any
    ) -> None:
        """Sets the run's folder, whose name is derived from its identity.

        Args:
            name: ENV in SAVE_DIR/ENV/ALGORITHM/RUN.
            sizes: the lengths of an observation and of an action.
            about: further entries of config.json, on which no number depends.
            identity: everything that the run's numbers depend on.
        """
        settings = self.settings
        if self.references:
            identity["references"] = list(self.references)
        save_dir, algorithm = Path(settings.save_dir).expanduser(), self.config.algorithm
        label = run_label(self.config.to_dict(), identity)
        are_given = (settings.random_return, settings.expert_return) != (None, None)
        about = {"sizes": list(sizes), **(about or {}), **({"given_references": True} if are_given else {})}
        self.folder = RunFolder(
            save_dir, name, algorithm, settings.seeds, self.members, identity, label, about
        )

    def _summary(self, training: TrainingLoop, diverged: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns the entries that every run's summary.json has; times are in seconds."""
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
            "diverged": diverged,
            "environment": self._environment(),
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            f"{self.unit}s_per_second": round(steps / progress.update_seconds, 1) if steps else None,
            "logs": {path.name: rows_digest(path) for path in training.logs},
        }

    def _environment(self) -> dict[str, Any] | None:
        """Returns the description of the environment that scored the run; None if nothing was evaluated."""
        if self.task is None or self.evaluator is None:
            return None
        return describe_environment(self.task, self.simulation)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")


@contextlib.contextmanager
def _lack_of_memory_told() -> Iterator[None]:
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "not enough memory: give fewer members, smaller batches or, offline, --data_on=host "
            f"({str(error)[:200]})"
        ) from error
