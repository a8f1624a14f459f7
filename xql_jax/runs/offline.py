"""Offline run: puts data, learner and population together."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xql_jax.configuration import DEFAULT, TABLE_4, apply_tuned, check_suite, resolve_widths
from xql_jax.data import (
    PREFIXES,
    SUFFIXES,
    check_spaces,
    load_dataset,
    name_of,
    share_beyond_bounds,
    stamps,
)
from xql_jax.data.dataset import Dataset
from xql_jax.data.memory import check_device, fits_on_device
from xql_jax.data.preprocessing import Preprocessing, fit_preprocessing
from xql_jax.data.views import view_for
from xql_jax.data.windows import Trajectories, WindowedDataset
from xql_jax.envs import Simulation, choose_suite
from xql_jax.envs.mazes import maze_of
from xql_jax.errors import UserError
from xql_jax.files import writing
from xql_jax.learners.fields import first_phases, hyperparameters
from xql_jax.learners.methods import RunDefaults
from xql_jax.learners.registry import method_of
from xql_jax.reports.plots import plot_maze, position_grid
from xql_jax.rollout.policies import prepared
from xql_jax.runs.extension import Beginning, extended, members_of_another, missing_seeds
from xql_jax.runs.run import TrainingRun
from xql_jax.runs.settings import OfflineSettings
from xql_jax.tasks import TASKS, Task, get_task
from xql_jax.training.checkpoints import Checkpoints
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.population import Population
from xql_jax.training.trainable import Trainable
from xql_jax.types import AnyBatch, Transitions

LOG = logging.getLogger(__name__)
AnyData = Dataset | WindowedDataset
MAX_BATCH_SIZE = 10_000_000  # transitions
DEFAULT_ENV_NAME = "pointmaze-umaze-v0"  # if neither a task nor data are given; it needs no download


class OfflineRun(TrainingRun):
    """Trains a population on a dataset."""

    settings: OfflineSettings
    unit = Population.unit

    def resolve(self) -> None:
        settings = self.settings
        self.task = _task(settings)
        self.batch_size = self._batch_size()
        self.normalize_observations = self._or_the_methods("normalize_observations")
        self.top_returns = self._or_the_methods("top_returns")
        self._check_numbers()
        self._check_evaluation()
        resolve_widths(self.config, settings.config_overrides)
        self.make_members(self.updates)

    def _check_numbers(self) -> None:
        """Raises UserError for values that a flag would refuse, but Python or a sweep's METHOD:FIELD gave."""
        if not 1 <= self.batch_size <= MAX_BATCH_SIZE:
            raise UserError(
                f"batch_size={self.batch_size}: must be a whole number, at least 1, at most "
                f"{MAX_BATCH_SIZE:,}"
            )
        if not 0 < self.top_returns <= 1:
            raise UserError(f"top_returns={self.top_returns}: must be above 0, at most 1")

    def _check_evaluation(self) -> None:
        """Raises UserError if a setting of evaluations is given, but there is no task to evaluate in."""
        given = {
            "random_return": self.settings.random_return is not None,
            "expert_return": self.settings.expert_return is not None,
            "eval_at_start": self.schedule.eval_at_start,
        }
        if self.task is None and any(given.values()):
            name = next(name for name in given if given[name])
            raise UserError(f"--{name}: nothing is evaluated without a task: give --env_name")

    @property
    def decided(self) -> dict[str, tuple[Any, str]]:
        names = ("batch_size", "normalize_observations", "top_returns")
        left_open = {name: getattr(self, name) for name in names if getattr(self.settings, name) is None}
        found = {name: (value, self._origin(name, value)) for name, value in left_open.items()}
        if self.settings.env_name is None and self.task:
            found["env_name"] = self.task.name, DEFAULT
        return found

    def _origin(self, name: str, value: Any) -> str:
        """Returns the origin of the value of a setting that the user did not give."""
        if value != self.config.about.run[name]:
            return TABLE_4  # which may have a batch size
        is_default = value == getattr(RunDefaults(), name)
        return DEFAULT if is_default else f"method {method_of(self.config.algorithm)}"

    @property
    def simulation(self) -> Simulation:
        return self.settings.simulation

    @property
    def updates(self) -> float:
        """The number of updates after which decaying learning rates reach 0."""
        return self.schedule.max_steps

    @property
    def identity(self) -> dict[str, Any]:
        return {
            **self.shared_identity,
            "dataset": [name_of(source) for source in self.settings.dataset],
            "batch_size": self.batch_size,
            "normalize_observations": self.normalize_observations,
            "top_returns": self.top_returns,
            **({} if self.config.about.run.scale_rewards else {"scale_rewards": False}),
        }

    def open(self) -> None:
        settings = self.settings
        if settings.extend:
            if settings.checkpoint:
                raise UserError(
                    "--extend finds the run that it goes on from by itself: leave out --checkpoint"
                )
            settings = self.settings = dataclasses.replace(settings, resume=True)
        self.resolve()
        self._prepare_evaluation()
        self.dataset: Any = self._dataset()
        self._name_folder()
        if settings.extend and (missing := missing_seeds(self.folder)):
            self._train_only(*missing)
        self.find_beginning()

    def _prepare_evaluation(self) -> None:
        settings = self.settings
        if self.task and settings.eval_episodes:
            suite = choose_suite(self.task, self.simulation)
            self.make_evaluator(self.task, suite)
            assert self.evaluator is not None
            _ = self.evaluator.observation_dim  # makes one, so a missing simulator fails before a download

    def _name_folder(self) -> None:
        sources = self.settings.dataset
        self.make_folder(
            self.task.name if self.task else _name_of([name_of(source) for source in sources]),
            self.sizes,
            about={"data_files": stamps(self.task, sources)},
            dataset_fingerprint=self.dataset.fingerprint(),
            **self.identity,
        )

    def _train_only(self, first: int, last: int, have_begun: bool) -> None:
        """Makes this the run of these seeds instead; the data stay as they are."""
        self.settings = dataclasses.replace(
            self.settings, seed=first, num_seeds=last - first + 1, extend=False, resume=have_begun
        )
        self.make_members(self.updates)
        if self.evaluator:
            self.evaluator.close()
            self._prepare_evaluation()
        self._name_folder()

    def find_beginning(self) -> None:
        """Reads the starting point of a new run with --checkpoint or --extend; a resumed run needs none."""
        self.beginning: Beginning | None = None
        settings, folder = self.settings, self.folder
        if not (settings.checkpoint or settings.extend) or folder.has_checkpoints:
            return
        if settings.extend:
            beginning = extended(folder, self.config, self.learner, self.schedule)
            # With resume=True a new folder would log that the run starts from the beginning.
            begun = (folder.path / "config.json").exists()
            self.settings = dataclasses.replace(settings, resume=begun)
        else:
            source = Path(settings.checkpoint or "").expanduser()
            beginning = members_of_another(source, folder)
        self.beginning = beginning

    @property
    def sizes(self) -> tuple[int, int]:
        """The lengths of an observation and of an action."""
        return self.dataset.observation_dim, self.dataset.action_dim

    def population(self) -> Trainable:
        files = self.folder.files
        self.preprocessing.save(files.preprocessing, self.folder.run)
        if self.beginning:
            states, progress, _ = self.beginning
            with Checkpoints(files.checkpoints, self.folder.run) as checkpoints:
                checkpoints.save(states, progress, self.beginning.write_logs)
        return self.offline_population(self.placed())

    def offline_population(self, data: AnyBatch | Trajectories | Transitions) -> Population:
        return Population(self.learner, self.members, data, self.batch_size)

    def placed(self) -> AnyBatch | Trajectories | Transitions:
        """Returns the data in the form that a population takes, and logs a description of the run."""
        dataset = self.dataset
        LOG.info(f"{self.folder.env_name}: {dataset.size:,} transitions from {dataset.source}")
        data, where = _placed(dataset, self.settings.data_on)
        LOG.info(
            f"{self.config.algorithm}: {len(self.members)} member(s), {self.schedule.max_steps:,} "
            f"{self.unit}s, data {where}; files in {self.folder.path}"
        )
        self._warn_of_first_phases()
        if not self.evaluator:
            LOG.info("no evaluation: " + ("--eval_episodes=0" if self.task else "no --env_name is given"))
        self.dataset = None  # frees the host's memory
        return data

    def _warn_of_first_phases(self) -> None:
        """Warns if the run, or its offline phase, ends before a first phase of learning does."""
        if self.settings.checkpoint:
            return  # the phase began in another run
        handover = self.schedule.handover
        updates, of = (handover, "the offline phase") if handover else (self.schedule.max_steps, "the run")
        base = hyperparameters(self.learner)
        for name in first_phases(self.learner):
            longest = max(float(member.hyperparameters.get(name, base[name])) for member in self.members)
            if longest >= updates:
                LOG.warning(
                    f"{name}={longest:g}: this first phase of learning takes all {updates:,} updates of "
                    f"{of}: shorten it by --config.{name}=N, or train for longer"
                )

    def loop(self, population: Trainable) -> TrainingLoop:
        return TrainingLoop(
            population,
            self.evaluator,
            self.task,
            self.schedule,
            self.folder.files,
            preprocessing=self.preprocessing,
        )

    def draw(self, population: Trainable) -> None:
        """Draws the learning curve; for mazes also V over the maze with the policy's paths."""
        super().draw(population)
        task, evaluator, preprocessing = self.task, self.evaluator, self.preprocessing
        if task is None or evaluator is None or task.suite not in ("pointmaze", "maze2d"):
            return
        maze = maze_of(task.name)
        state = population.member(0)[1]
        values = None
        if state.value is not None:
            positions = position_grid(maze)
            at_rest = np.concatenate([positions, np.zeros_like(positions)], axis=-1)
            values = state.value(preprocessing.observations(at_rest.reshape(-1, 4))).reshape(
                positions.shape[:2]
            )
        policy = prepared(population.policy(), preprocessing)
        paths = evaluator.run(policy, record_paths=True).paths
        assert paths is not None  # they were asked for
        title = f"{self.config.algorithm} on {task.name}, {self.members[0]}"
        picture = self.folder.path / "maze.png"
        with writing(picture):
            plot_maze(maze, values, paths[0], title, picture)

    def _or_the_methods(self, name: str) -> Any:
        """Returns the setting, or the method's default if it was not given (see `RunDefaults`)."""
        given = getattr(self.settings, name)
        return self.config.about.run[name] if given is None else given

    def _batch_size(self) -> int:
        """Returns the batch size; also applies `--tuned`, which may set one, to the config."""
        settings = self.settings
        default = self._or_the_methods("batch_size")
        if not settings.tuned:
            return default
        if self.task is None:
            raise UserError("--tuned needs --env_name: its values are those of a task")
        tuned = apply_tuned(self.config, self.task.name, settings.config_overrides)
        # A sweep's METHOD:batch_size=N is already in `default`.
        is_given = settings.batch_size is not None or "batch_size" in settings.config_overrides
        return default if is_given else tuned or default

    def _dataset(self) -> AnyData:
        """Loads the data in the learner's form, with IQL's preprocessing for the task's suite."""
        settings = self.settings
        dataset = load_dataset(self.task, settings.dataset, settings.dataset_url)
        if self.task:
            self.task = self.scored(self.task, dataset.references)
        if self.evaluator and self.task:
            dimensions = self.evaluator.observation_dim, self.evaluator.action_dim
            check_spaces(dataset, *dimensions, self.task.name)
        if beyond := share_beyond_bounds(dataset):
            LOG.warning(f"{100 * beyond:.2g}% of the actions' entries are beyond ±1, and are clipped")
        self.preprocessing = self.fit_preprocessing(dataset)
        dataset = self.preprocessing.dataset(dataset)
        view = view_for(self.learner, dataset)
        if dropped := dataset.size - view.size:
            LOG.info(
                f"left out {dropped:,} of {dataset.size:,} transitions: the data do not tell the next action"
            )
        return view

    def fit_preprocessing(self, dataset: Dataset) -> Preprocessing:
        return fit_preprocessing(
            dataset,
            self.task,
            normalize_observations=self.normalize_observations,
            scale_rewards=self.config.about.run.scale_rewards,
            top_returns=self.top_returns,
        )


def _task(settings: OfflineSettings) -> Task | None:
    """Returns the task; None if only data are given: then rewards are unchanged and nothing is evaluated."""
    if settings.env_name is None and settings.dataset:
        return None
    task = get_task(settings.env_name or DEFAULT_ENV_NAME)
    if task.name not in TASKS and not settings.dataset:
        raise UserError(
            f"--env_name={task.name}: an online task, which has no dataset: experiments/train_online.py "
            "trains in it; to learn from data of your own give --dataset"
        )
    check_suite(settings.config, task)
    return task


def _placed(dataset: AnyData, data_on: str) -> tuple[AnyBatch | Trajectories | Transitions, str]:
    """Returns the data in the form that a population takes, and a description of where they are.

    Args:
        data_on: one of `DATA_ON`.
    """
    num_bytes = sum(field.nbytes for field in jax.tree.leaves(dataset.batch))
    if data_on == "host" or (data_on == "auto" and not fits_on_device(num_bytes)):
        return dataset, "in the host's memory, streamed in blocks"
    check_device(num_bytes, dataset.source)
    return dataset.batch, "on the device"


def _name_of(sources: Sequence[str]) -> str:
    """Returns a folder's name for data without a task.

    For example mine for mine.npz, and door-human-v2 for minari:door/human-v2.
    """
    kind, _, name = sources[0].rpartition(":") if sources[0].startswith(PREFIXES) else ("", "", sources[0])
    if kind == "minari" and not Path(name).expanduser().exists():
        stem = name.replace("/", "-")
    else:
        path = Path(name).expanduser().resolve()
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    stem = stem.strip(".") or "data"
    return stem if len(sources) == 1 else f"{stem}-and-{len(sources) - 1}-more"
