"""One offline run from its settings: data, learner, population, loop and reports put together."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from xql_jax.configuration import apply_tuned, check_suite, learner_from_config
from xql_jax.data import check_spaces, load_dataset
from xql_jax.data.dataset import Dataset
from xql_jax.data.transforms import iql_preprocessing
from xql_jax.envs.mazes import maze_of
from xql_jax.evaluation.rollout import Evaluator
from xql_jax.reports.plots import plot_learning_curve, plot_maze, position_grid
from xql_jax.reports.summary import read_evaluations, summarize
from xql_jax.tasks import Task, get_task
from xql_jax.training.offline import OfflineTraining, Schedule
from xql_jax.training.population import Population, make_members, parse_sweep
from xql_jax.training.run_folder import RunFolder, fingerprint

EVALUATION_SEED = 10_000  # of the episodes' starts: the same for every member, evaluation and run
DEFAULT_BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class OfflineSettings:
    """The flags of `experiments/train_offline.py`, which explains them."""

    env_name: str
    config: ConfigDict
    config_overrides: frozenset[str]  # fields given on the command line, which --tuned leaves alone
    dataset: str | None
    save_dir: str
    seed: int
    num_seeds: int
    sweep: str
    schedule: Schedule
    eval_episodes: int
    batch_size: int | None
    tuned: bool
    resume: bool
    show_progress: bool


def run_offline(settings: OfflineSettings) -> int:
    """Trains, evaluates and reports as the settings say.

    Returns:
        The exit code: 0, or 128 + the signal's number if a signal stopped the run.
    Raises:
        UserError: if a setting or the data is unfit; nothing of an earlier run is touched.
    """
    task = get_task(settings.env_name)
    config, schedule = settings.config, settings.schedule
    check_suite(config, task)
    tuned_batch_size = apply_tuned(config, task.name, settings.config_overrides) if settings.tuned else None
    batch_size = settings.batch_size or tuned_batch_size or DEFAULT_BATCH_SIZE
    learner = learner_from_config(config, schedule.max_steps)
    members = make_members(
        range(settings.seed, settings.seed + settings.num_seeds),
        parse_sweep(settings.sweep, config.algorithm),
    )
    evaluator = None
    if settings.eval_episodes:
        evaluator = Evaluator(task, len(members), settings.eval_episodes, EVALUATION_SEED)
    dataset = load_dataset(task, settings.dataset)
    if evaluator:
        check_spaces(dataset, evaluator.observation_dim, evaluator.action_dim, task.name)
    for transform in iql_preprocessing(task.suite):
        dataset = transform(dataset)

    folder = RunFolder(
        Path(settings.save_dir).expanduser(),
        task.name,
        config.algorithm,
        range(settings.seed, settings.seed + settings.num_seeds),
        _identity(settings, batch_size, dataset),
    )
    finished = folder.finished_summary() if settings.resume else None
    if finished:
        _print_results(finished, folder.path, heading="this run has ended already")
        return 0
    with folder.opened(settings.resume):
        print(f"{task.name}: {dataset.size:,} transitions from {dataset.source}")
        print(
            f"{config.algorithm}: {len(members)} member(s), {schedule.max_steps:,} updates; "
            f"files in {folder.path}"
        )
        population = Population(learner, members, dataset.batch, batch_size)
        del dataset  # the device has the data now
        training = OfflineTraining(population, evaluator, task, schedule, folder)
        received = training.run(show_progress=settings.show_progress)
        training.close()

        status = "finished" if training.finished else "interrupted"
        summary = _summary(task, config.algorithm, training, folder, status)
        if training.finished:  # who stops a run does not wait for pictures
            _draw(task, config.algorithm, training, evaluator, folder)
        folder.write_summary(summary)  # last: its "finished" says that all else is there
    if evaluator:
        evaluator.close()
    if training.finished or received is None:
        _print_results(summary, folder.path, heading="done")
        return 0
    _print_results(summary, folder.path, heading=f"stopped by {received.name}; go on with --resume")
    return 128 + received


def _identity(settings: OfflineSettings, batch_size: int, dataset: Dataset) -> dict[str, Any]:
    """All that the run's numbers depend on."""
    config = {
        name: value for name, value in settings.config.to_dict().items() if name not in ("suites", "tuned")
    }
    return {
        "env_name": settings.env_name,
        "dataset": settings.dataset,
        "dataset_fingerprint": fingerprint(dataset.batch),
        "config": config,
        "seeds": [settings.seed, settings.seed + settings.num_seeds - 1],
        "sweep": settings.sweep,
        "batch_size": batch_size,
        "max_steps": settings.schedule.max_steps,
        "log_interval": settings.schedule.log_interval,
        "eval_interval": settings.schedule.eval_interval,
        "eval_episodes": settings.eval_episodes,
        "evaluation_seed": EVALUATION_SEED,
    }


def _summary(
    task: Task, algorithm: str, training: OfflineTraining, folder: RunFolder, status: str
) -> dict[str, Any]:
    population, progress = training.population, training.progress
    seconds = {
        "compile": population.compile_seconds,
        "update": progress.update_seconds,
        "evaluation": progress.evaluation_seconds,
    }
    updates = progress.step * len(population.members)
    return {
        "status": status,
        "env_name": task.name,
        "algorithm": algorithm,
        "step": progress.step,
        "results": summarize(read_evaluations(folder.evaluations)),
        "diverged": [
            {"member": str(population.members[int(index)]), **divergence}
            for index, divergence in progress.diverged.items()
        ],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "updates_per_second": round(updates / progress.update_seconds, 1) if updates else None,
    }


def _draw(
    task: Task, algorithm: str, training: OfflineTraining, evaluator: Evaluator | None, folder: RunFolder
) -> None:
    rows = read_evaluations(folder.evaluations)
    if rows:
        plot_learning_curve(rows, f"{algorithm} on {task.name}", folder.path / "learning_curve.png")
    if evaluator and task.suite in ("pointmaze", "maze2d"):
        maze = maze_of(task.name)
        learner, state = training.population.member(0)
        values = None
        if hasattr(learner, "values"):
            positions = position_grid(maze)
            at_rest = np.concatenate([positions, np.zeros_like(positions)], axis=-1)
            values = learner.values(state, at_rest.reshape(-1, 4)).reshape(positions.shape[:2])
        paths = evaluator.run(training.population.policy(), record_paths=True).paths
        assert paths is not None  # they were asked for
        title = f"{algorithm} on {task.name}, {training.population.members[0]}"
        plot_maze(maze, values, paths[0], title, folder.path / "maze.png")


def _print_results(summary: dict[str, Any], path: Path, heading: str) -> None:
    print(f"{heading}: {summary['env_name']}, {summary['algorithm']}, {summary['step']:,} updates")
    for result in summary["results"]:
        setting = ", ".join(f"{name}={float(value):g}" for name, value in result["hyperparameters"].items())
        interval = result["last_score_interval_95"]
        spread = (
            f" ± {interval:.1f} (95% interval of the mean over {len(result['seeds'])} seeds)"
            if interval
            else ""
        )
        by_seed = ", ".join(
            f"{score:.1f}" + (" (diverged)" if seed in result["diverged_seeds"] else "")
            for seed, score in zip(result["seeds"], result["last_score_by_seed"], strict=True)
        )
        print(
            f"  {setting + ': ' if setting else ''}last score {result['last_score']:.1f}{spread}; "
            f"by seed: {by_seed}"
        )
    for divergence in summary["diverged"]:
        print(f"  diverged: {divergence['member']} at update {divergence['step']} ({divergence['quantity']})")
    print(f"  results: {path}")
