"""An offline run: data, learner and population put together."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xql_jax.configuration import apply_tuned, check_suite, resolve_widths
from xql_jax.data import PREFIXES, SUFFIXES, check_spaces, load_dataset, share_beyond_bounds
from xql_jax.data.dataset import Dataset
from xql_jax.data.mapped import MappedDataset, read_ahead
from xql_jax.data.memory import check_device, fits_on_device
from xql_jax.data.preprocessing import fit_preprocessing
from xql_jax.data.views import view_for
from xql_jax.data.windows import Trajectories, WindowedDataset
from xql_jax.envs import choose_suite
from xql_jax.envs.fidelity import describe_environment
from xql_jax.envs.mazes import maze_of
from xql_jax.errors import UserError
from xql_jax.evaluation.policies import prepared
from xql_jax.files import writing
from xql_jax.reports.plots import plot_maze, position_grid
from xql_jax.runs.record import members_of_another
from xql_jax.runs.run import TrainingRun
from xql_jax.runs.settings import OfflineSettings
from xql_jax.tasks import References, Task, get_task, referenced
from xql_jax.training.checkpoints import Checkpoints
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.population import Population
from xql_jax.types import AnyBatch, Transitions

LOG = logging.getLogger(__name__)
AnyData = Dataset | MappedDataset | WindowedDataset
DEFAULT_ENV_NAME = "pointmaze-umaze-v0"  # where neither a task nor data is named: it needs no download


class OfflineRun(TrainingRun):
    """Trains a population on a dataset."""

    settings: OfflineSettings
    unit = Population.unit

    def resolve(self) -> None:
        """Finds the task, and what a method, a suite and the flags together say; reads no data."""
        settings = self.settings
        self.task = _task(settings)
        self.batch_size = self._batch_size()
        self.normalize_observations = self._or_the_methods("normalize_observations")
        self.top_returns = self._or_the_methods("top_returns")
        resolve_widths(self.config, settings.config_overrides)
        self.make_members()

    @property
    def identity(self) -> dict[str, Any]:
        """What its numbers depend on, once resolved, but for what the data themselves say."""
        return {
            **self.shared_identity,
            "dataset": list(self.settings.dataset),
            "batch_size": self.batch_size,
            "normalize_observations": self.normalize_observations,
            "top_returns": self.top_returns,
            "env_backend": self.settings.env_backend,
            "legacy_inertia": self.settings.legacy_inertia,
            **({} if self.config.about.run.scale_rewards else {"scale_rewards": False}),
        }

    def open(self) -> None:
        settings = self.settings
        self.resolve()
        if self.task and settings.eval_episodes:
            suite = choose_suite(self.task, settings.env_backend, settings.legacy_inertia)
            self.make_evaluator(self.task, suite)
        self.references: References | None = None  # by which the data have the task scored
        self.dataset: Any = self._dataset()
        references: dict[str, Any] = {"references": list(self.references)} if self.references else {}
        self.make_folder(
            self.task.name if self.task else _name_of(settings.dataset),
            dataset_fingerprint=self.dataset.fingerprint(),
            **self.identity,
            **references,
        )
        self.beginning = None
        if settings.checkpoint and not self.folder.has_checkpoints:  # else it has begun
            sizes = self.dataset.observation_dim, self.dataset.action_dim
            source = Path(settings.checkpoint).expanduser()
            self.beginning = members_of_another(source, self.folder, self.learner, *sizes)

    def population(self) -> Population:
        settings, dataset, files = self.settings, self.dataset, self.folder.files
        self.preprocessing.save(files.preprocessing, self.folder.run)
        if self.beginning:
            with Checkpoints(files.checkpoints, self.folder.run) as checkpoints:
                checkpoints.save(*self.beginning)
        LOG.info(f"{self.folder.env_name}: {dataset.size:,} transitions from {dataset.source}")
        data, where = _placed(dataset, settings.data_on)
        LOG.info(
            f"{self.config.algorithm}: {len(self.members)} member(s), {self.schedule.max_steps:,} updates, "
            f"data {where}; files in {self.folder.path}"
        )
        if not self.evaluator:
            LOG.info("no evaluation: " + ("--eval_episodes=0" if self.task else "no --env_name is given"))
        self.dataset = None  # what is on the device now need not be on the host
        return Population(self.learner, self.members, data, self.batch_size)

    def loop(self, population: Population) -> TrainingLoop:
        return TrainingLoop(
            population,
            self.evaluator,
            self.task,
            self.schedule,
            self.folder.files,
            observe=self.preprocessing.observations,
            reward=self.preprocessing.rewards,
            run=self.folder.run,
        )

    def details(self, population: Population) -> dict[str, Any]:
        if self.task is None or self.evaluator is None:
            return {"environment": None}
        flags = self.settings.env_backend, self.settings.legacy_inertia
        return {"environment": describe_environment(self.task, *flags)}

    def draw(self, population: Population) -> None:
        """The learning curve; and for mazes V over the maze and the policy's paths."""
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
        policy = prepared(population.policy(), preprocessing.observations, preprocessing.rewards)
        paths = evaluator.run(policy, record_paths=True).paths
        assert paths is not None  # they were asked for
        title = f"{self.config.algorithm} on {task.name}, {self.members[0]}"
        picture = self.folder.path / "maze.png"
        with writing(picture):
            plot_maze(maze, values, paths[0], title, picture)

    def _or_the_methods(self, name: str) -> Any:
        """The setting, or where it was not given what the method wants (see `RunDefaults`)."""
        given = getattr(self.settings, name)
        return self.config.about.run[name] if given is None else given

    def _batch_size(self) -> int:
        """Also applies `--tuned`, which may bring a batch size, to the config."""
        settings = self.settings
        default = self._or_the_methods("batch_size")
        if not settings.tuned:
            return default
        if self.task is None:
            raise UserError("--tuned needs --env_name: its values are those of a task")
        tuned = apply_tuned(self.config, self.task.name, settings.config_overrides)
        return settings.batch_size or tuned or default

    def _dataset(self) -> AnyData:
        """The data as the learner wants it, preprocessed as IQL does for the task's suite."""
        settings = self.settings
        dataset = load_dataset(
            self.task, settings.dataset, settings.dataset_url, settings.data_on, settings.external_data
        )
        if self.task and (scored := referenced(self.task, dataset.references)) is not self.task:
            self.task, self.references = scored, dataset.references
            LOG.info(
                f"the data say: score 0 at a return of {scored.min_return:g}, 100 at {scored.max_return:g}"
            )
        if self.evaluator and self.task:
            dimensions = self.evaluator.observation_dim, self.evaluator.action_dim
            check_spaces(dataset, *dimensions, self.task.name)
        if beyond := share_beyond_bounds(dataset):
            LOG.warning(f"{100 * beyond:.2g}% of the actions' entries are beyond ±1, and are clipped")
        self.preprocessing = fit_preprocessing(
            dataset,
            self.task.suite if self.task else None,
            normalize_observations=self.normalize_observations,
            scale_rewards=self.config.about.run.scale_rewards,
            top_returns=self.top_returns,
        )
        dataset = self.preprocessing.dataset(dataset)
        view = view_for(self.learner, dataset)
        if dropped := dataset.size - view.size:
            LOG.info(
                f"left out {dropped:,} of {dataset.size:,} transitions: the data do not tell the next action"
            )
        return view


def _task(settings: OfflineSettings) -> Task | None:
    """The task; None for data alone, which nothing says how to evaluate or what its rewards mean."""
    if settings.env_name is None and settings.dataset:
        return None
    task = get_task(settings.env_name or DEFAULT_ENV_NAME)
    check_suite(settings.config, task)
    return task


def _placed(dataset: AnyData, data_on: str) -> tuple[AnyBatch | Trajectories | Transitions, str]:
    """What a population is to be given, and in words where it is."""
    if isinstance(dataset, MappedDataset):
        read_ahead(dataset)
        return dataset, "on disk, streamed in blocks"
    num_bytes = sum(field.nbytes for field in jax.tree.leaves(dataset.batch))
    if data_on == "host" or (data_on == "auto" and not fits_on_device(num_bytes)):
        return dataset, "in the host's memory, streamed in blocks"
    check_device(num_bytes, dataset.source)
    return dataset.batch, "on the device"


def _name_of(sources: Sequence[str]) -> str:
    """A folder's name for data without a task: mine for mine.npz, door-human-v2 for minari:door/human-v2."""
    kind, _, name = sources[0].rpartition(":") if sources[0].startswith(PREFIXES) else ("", "", sources[0])
    if kind == "minari" and not Path(name).expanduser().exists():
        stem = name.replace("/", "-")
    else:
        path = Path(name).expanduser().resolve()
        stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    stem = stem.strip(".") or "data"
    return stem if len(sources) == 1 else f"{stem}-and-{len(sources) - 1}-more"
