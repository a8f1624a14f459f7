"""Datasets: `load_dataset` is the way in."""

from pathlib import Path

from xql_jax.data.cache import cached_file
from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.dataset import Dataset
from xql_jax.data.npz import read_npz
from xql_jax.errors import UserError
from xql_jax.tasks import Task

READERS = {".hdf5": read_hdf5, ".h5": read_hdf5, ".npz": read_npz}  # by suffix


def load_dataset(task: Task | None, path: str | None) -> Dataset:
    """Reads the file at `path`, or without one the task's own dataset, as it is: no preprocessing.

    Args:
        task: gives the dataset, and the episode limit for files without time-outs; may be None beside a path.
        path: an `.hdf5` or `.h5` in D4RL's layout, or an `.npz`; None for the task's own.
    Raises:
        UserError: if there is no such file, its suffix is unknown, or it is unfit (see the readers).
    """
    if path is not None:
        file = Path(path).expanduser()
    elif task is not None:
        file = _task_file(task)
    else:
        raise UserError("no data: name a D4RL task or give a dataset file")
    if file.suffix.lower() not in READERS:
        raise UserError(
            f"{file}: unknown suffix {file.suffix!r} of a dataset file; known: {', '.join(READERS)}"
        )
    return READERS[file.suffix.lower()](file, task.episode_limit if task else None)


def _task_file(task: Task) -> Path:
    if task.suite == "pointmaze":
        from xql_jax.data.pointmaze import generated_file  # brings a simulator that no reader needs

        return generated_file(task)
    file = cached_file(task)
    if not file.exists():
        raise UserError(
            f"{task.name}: dataset not found; download {task.dataset_url} and put it at {file} "
            "(D4RL_DATASET_DIR names another folder)"
        )
    return file


def check_spaces(dataset: Dataset, observation_dim: int, action_dim: int, name: str) -> None:
    """Raises UserError unless the dataset's dimensions are those of the environment `name`."""
    for what, of_data, of_environment in (
        ("observations", dataset.observation_dim, observation_dim),
        ("actions", dataset.action_dim, action_dim),
    ):
        if of_data != of_environment:
            raise UserError(
                f"{dataset.source}: {what} have {of_data} entries, those of {name} have {of_environment}"
            )
