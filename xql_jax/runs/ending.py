"""What a run leaves when its training has ended: pictures, and the entries of summary.json."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs import describe_environment
from xql_jax.files import writing
from xql_jax.logs.csv_rows import Row
from xql_jax.reports.run_summary import summarize
from xql_jax.rollout.acting import prepared
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.job import Job
from xql_jax.tasks import Task
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.population import Population
from xql_jax.types import Json


def save_learning_curve(job: Job, rows: Sequence[Row], task: Task, folder: Path) -> None:
    """Draws learning_curve.png from the rows of evaluations.csv."""
    from xql_jax.reports.run_pictures import plot_learning_curve  # matplotlib takes a second

    settings, picture = job.settings, folder / "learning_curve.png"
    title = f"{settings.config.algorithm} on {task.name}"
    quantity = "normalised score" if task.is_normalised else "return"
    with writing(picture):
        plot_learning_curve(rows, title, picture, f"{settings.unit}s", settings.schedule.handover, quantity)


def save_maze_picture(
    job: Job, population: Population, evaluator: Evaluator, preprocessing: Preprocessing, folder: Path
) -> None:
    """Draws maze.png: V over the maze, if the method has one, and the paths of the first member's policy."""
    from xql_jax.envs.mazes import maze_of
    from xql_jax.reports.run_pictures import plot_maze, position_grid

    settings = job.settings
    maze, state, values = maze_of(settings.task.name), population.member(0)[1], None
    if state.value is not None:
        positions = position_grid(maze)
        at_rest = np.concatenate([positions, np.zeros_like(positions)], axis=-1).reshape(-1, 4)
        values = state.value(preprocessing.observations(at_rest)).reshape(positions.shape[:2])
    paths = evaluator.run(prepared(population.policy(), preprocessing), record_paths=True).paths
    assert paths is not None  # they were asked for
    picture = folder / "maze.png"
    title = f"{settings.config.algorithm} on {settings.task.name}, {job.members[0]}"
    with writing(picture):
        plot_maze(maze, values, paths[0], title, picture)


def results_of(job: Job, loop: TrainingLoop, rows: Sequence[Row]) -> Json:
    """Returns what every summary.json has of a training, from the rows of evaluations.csv."""
    settings, progress, environment = job.settings, loop.progress, None
    if settings.task and settings.eval_episodes:
        environment = describe_environment(settings.task, settings.simulation)
    updates = progress.step * len(job.members)
    return {
        "status": "finished" if loop.finished else "interrupted",
        "algorithm": settings.config.algorithm,
        "step": progress.step,
        "results": summarize(rows),
        "diverged": [
            {"member": str(job.members[index]), **dataclasses.asdict(divergence)}
            for index, divergence in loop.population.diverged.items()
        ],
        "environment": environment,
        "seconds": {
            "compile": round(loop.population.compile_seconds, 3),
            "update": round(progress.update_seconds, 3),
            "evaluation": round(progress.evaluation_seconds, 3),
        },
        f"{settings.unit}s_per_second": round(updates / progress.update_seconds, 1) if updates else None,
    }
