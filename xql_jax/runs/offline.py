"""Offline run: puts data, learner and population together."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

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
from xql_jax.data.memory import fits_on_device
from xql_jax.data.preprocessing import Preprocessing, fit_preprocessing
from xql_jax.data.views import view_for
from xql_jax.data.windows import Trajectories, WindowedDataset
from xql_jax.envs import choose_suite
from xql_jax.envs.mazes import maze_of
from xql_jax.errors import UserError
from xql_jax.files import writing
from xql_jax.learners.fields import first_phases, hyperparameters
from xql_jax.reports.plots import plot_maze, position_grid
from xql_jax.rollout.policies import prepared
from xql_jax.runs.extension import Beginning, extended, members_of_another, missing_seeds
from xql_jax.runs.run import TrainingRun
from xql_jax.runs.settings import OfflineSettings
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
        self.settings = self.settings.resolved()
        self.task = self.settings.task
        self.make_members(self.updates)

    @property
    def updates(self) -> float:
        """The number of updates after which decaying learning rates reach 0."""
        return self.schedule.max_steps

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
        return Population(self.learner, self.members, data, self.settings.batch_size)

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
            normalize_observations=self.settings.normalize_observations,
            scale_rewards=self.config.about.run.scale_rewards,
            top_returns=self.settings.top_returns,
        )


def _placed(dataset: AnyData, data_on: str) -> tuple[AnyBatch | Trajectories | Transitions, str]:
    """Returns the data in the form that a population takes, and a description of where they are.

    Args:
        data_on: one of `DATA_ON`.
    """
    num_bytes = sum(field.nbytes for field in jax.tree.leaves(dataset.batch))
    if data_on == "host" or (data_on == "auto" and not fits_on_device(num_bytes)):
        return dataset, "in the host's memory, streamed in blocks"
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
