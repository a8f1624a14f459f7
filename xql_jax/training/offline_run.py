"""One offline run from its settings: data, learner, population, loop and reports put together."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xql_jax.configuration import apply_tuned, check_suite, learner_from_config
from xql_jax.data import PREFIXES, READERS, check_spaces, load_dataset, share_beyond_bounds
from xql_jax.data.dataset import Dataset
from xql_jax.data.mapped import MappedDataset, read_ahead
from xql_jax.data.memory import fits_on_device
from xql_jax.data.transforms import add_next_actions, iql_preprocessing
from xql_jax.envs import choose_suite
from xql_jax.envs.fidelity import describe_environment
from xql_jax.envs.mazes import maze_of
from xql_jax.errors import UserError
from xql_jax.evaluation.rollout import Evaluator
from xql_jax.logs.files import writing
from xql_jax.reports.plots import plot_maze, position_grid
from xql_jax.tasks import Task, get_task
from xql_jax.training.loop import EVALUATION_SEED, TrainingLoop
from xql_jax.training.population import Member, Population, make_members, parse_sweep
from xql_jax.training.run_flags import RunSettings
from xql_jax.training.run_folder import RunFolder
from xql_jax.training.run_report import draw_learning_curve, print_results, summary_of, tell_end
from xql_jax.types import AnyBatch, Transitions

DEFAULT_BATCH_SIZE = 256
DEFAULT_ENV_NAME = "pointmaze-umaze-v0"  # where neither a task nor data is named: it needs no download


@dataclasses.dataclass(frozen=True)
class OfflineSettings(RunSettings):
    """The flags of `experiments/train_offline.py`, which explains them."""

    env_name: str | None
    dataset: tuple[str, ...]
    dataset_url: str | None
    data_on: str  # one of `DATA_ON`
    env_backend: str
    legacy_inertia: bool
    batch_size: int | None
    tuned: bool


# Where the transitions are while a run learns from them: the fastest place that has room, on the device, in
# the host's memory, or on disk.
DATA_ON = ("auto", "device", "host", "disk")


def run_offline(settings: OfflineSettings) -> int:
    """Trains, evaluates and reports as the settings say.

    Returns:
        The exit code: 0, or 128 + the signal's number if a signal stopped the run.
    Raises:
        UserError: if a setting or the data is unfit; nothing of an earlier run is touched.
    """
    task = _task(settings)
    config, schedule = settings.config, settings.schedule
    batch_size = _batch_size(settings, task)
    learner = learner_from_config(config, schedule.max_steps)
    seeds = range(settings.seed, settings.seed + settings.num_seeds)
    members = make_members(seeds, parse_sweep(settings.sweep, config.algorithm))
    evaluator = _evaluator(settings, task, members)
    dataset = _dataset(settings, task, evaluator, learner.uses_next_actions)

    name = task.name if task else _name_of(settings.dataset)
    identity = _identity(settings, task, batch_size, dataset)
    folder = RunFolder(Path(settings.save_dir).expanduser(), name, config.algorithm, seeds, identity)
    finished = folder.finished_summary() if settings.resume else None
    if finished:
        print_results(finished, folder.path, "this run has ended already", Population.unit)
        return 0
    with folder.opened(settings.resume), _lack_of_memory_told():
        print(f"{name}: {dataset.size:,} transitions from {dataset.source}")
        data, where = _placed(dataset, settings.data_on)
        print(
            f"{config.algorithm}: {len(members)} member(s), {schedule.max_steps:,} updates, data {where}; "
            f"files in {folder.path}"
        )
        if not evaluator:
            print("no evaluation: " + ("--eval_episodes=0" if task else "no --env_name is given"))
        population = Population(learner, members, data, batch_size)
        del dataset, data  # what is on the device now need not be on the host
        training = TrainingLoop(population, evaluator, task, schedule, folder)
        received = training.run(show_progress=settings.show_progress)
        training.close()

        summary = summary_of(training, name, config.algorithm, population.compile_seconds, folder)
        summary["environment"] = (
            describe_environment(task, settings.env_backend, settings.legacy_inertia)
            if task and settings.eval_episodes
            else None
        )
        if training.finished:  # who stops a run does not wait for pictures
            draw_learning_curve(config.algorithm, task, evaluator, population.unit, folder)
            _draw_maze(config.algorithm, task, population, evaluator, folder)
        folder.write_summary(summary)  # last: its "finished" says that all else is there
    if evaluator:
        evaluator.close()
    return tell_end(summary, folder.path, received, population.unit)


@contextlib.contextmanager
def _lack_of_memory_told() -> Iterator[None]:
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "not enough memory: give --data_on=host or --data_on=disk, a smaller --batch_size or fewer "
            f"members ({str(error)[:200]})"
        ) from error


def _task(settings: OfflineSettings) -> Task | None:
    """The task; None for data alone, which nothing says how to evaluate or what its rewards mean."""
    if settings.env_name is None and settings.dataset:
        return None
    task = get_task(settings.env_name or DEFAULT_ENV_NAME)
    check_suite(settings.config, task)
    return task


def _batch_size(settings: OfflineSettings, task: Task | None) -> int:
    """Also applies `--tuned`, which may bring a batch size, to the config."""
    if not settings.tuned:
        return settings.batch_size or DEFAULT_BATCH_SIZE
    if task is None:
        raise UserError("--tuned needs --env_name: its values are those of a task")
    tuned = apply_tuned(settings.config, task.name, settings.config_overrides)
    return settings.batch_size or tuned or DEFAULT_BATCH_SIZE


def _evaluator(settings: OfflineSettings, task: Task | None, members: Sequence[Member]) -> Evaluator | None:
    if task is None or not settings.eval_episodes:
        return None
    suite = choose_suite(task, settings.env_backend, settings.legacy_inertia)
    return Evaluator(task, len(members), settings.eval_episodes, EVALUATION_SEED, suite=suite)


def _dataset(
    settings: OfflineSettings, task: Task | None, evaluator: Evaluator | None, with_next_actions: bool
) -> Dataset | MappedDataset:
    """The data, preprocessed as IQL does for the task's suite, if asked with the actions that follow."""
    on_disk = {"disk": True, "auto": None}.get(settings.data_on, False)
    dataset = load_dataset(task, settings.dataset, settings.dataset_url, on_disk)
    if evaluator and task:
        check_spaces(dataset, evaluator.observation_dim, evaluator.action_dim, task.name)
    if beyond := share_beyond_bounds(dataset):
        print(f"warning: {100 * beyond:.2g}% of the actions' entries are beyond ±1, and are clipped")
    for transform in iql_preprocessing(task.suite if task else None):
        dataset = transform(dataset)
    if not with_next_actions:
        return dataset
    with_next = add_next_actions(dataset)
    if dropped := dataset.size - with_next.size:
        print(f"left out {dropped:,} of {dataset.size:,} transitions: the data do not tell the next action")
    return with_next


def _placed(dataset: Dataset | MappedDataset, data_on: str) -> tuple[AnyBatch | Transitions, str]:
    """What a population is to be given, and in words where it is."""
    if isinstance(dataset, MappedDataset):
        read_ahead(Path(dataset.source))
        return dataset, "on disk, streamed in blocks"
    if data_on == "host" or (data_on == "auto" and not fits_on_device(dataset)):
        return dataset, "in the host's memory, streamed in blocks"
    return dataset.batch, "on the device"


def _name_of(sources: Sequence[str]) -> str:
    """A folder's name for data without a task: mine for mine.npz, door-human-v2 for minari:door/human-v2."""
    kind, _, name = sources[0].rpartition(":") if sources[0].startswith(PREFIXES) else ("", "", sources[0])
    if kind == "minari" and not Path(name).expanduser().exists():
        stem = name.replace("/", "-")
    else:
        path = Path(name).expanduser().resolve()
        stem = path.stem if path.suffix.lower() in READERS else path.name
    stem = stem.strip(".") or "data"
    return stem if len(sources) == 1 else f"{stem}-and-{len(sources) - 1}-more"


def _identity(
    settings: OfflineSettings, task: Task | None, batch_size: int, dataset: Dataset | MappedDataset
) -> dict[str, Any]:
    """All that the run's numbers depend on."""
    config = {
        name: value for name, value in settings.config.to_dict().items() if name not in ("suites", "tuned")
    }
    return {
        "env_name": task.name if task else None,
        "dataset": list(settings.dataset),
        "dataset_fingerprint": dataset.fingerprint(),
        "config": config,
        "seeds": [settings.seed, settings.seed + settings.num_seeds - 1],
        "sweep": settings.sweep,
        "batch_size": batch_size,
        "max_steps": settings.schedule.max_steps,
        "log_interval": settings.schedule.log_interval,
        "eval_interval": settings.schedule.eval_interval,
        "eval_episodes": settings.eval_episodes,
        "evaluation_seed": EVALUATION_SEED,
        "env_backend": settings.env_backend,
        "legacy_inertia": settings.legacy_inertia,
    }


def _draw_maze(
    algorithm: str, task: Task | None, population: Population, evaluator: Evaluator | None, folder: RunFolder
) -> None:
    """For mazes, V over the maze and the policy's paths."""
    if task is None or evaluator is None or task.suite not in ("pointmaze", "maze2d"):
        return
    maze = maze_of(task.name)
    learner, state = population.member(0)
    values = None
    if hasattr(learner, "values"):
        positions = position_grid(maze)
        at_rest = np.concatenate([positions, np.zeros_like(positions)], axis=-1)
        values = learner.values(state, at_rest.reshape(-1, 4)).reshape(positions.shape[:2])
    paths = evaluator.run(population.policy(), record_paths=True).paths
    assert paths is not None  # they were asked for
    title = f"{algorithm} on {task.name}, {population.members[0]}"
    picture = folder.path / "maze.png"
    with writing(picture):
        plot_maze(maze, values, paths[0], title, picture)
