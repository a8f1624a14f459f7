"""Datasets: `load_dataset` is the way in."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xql_jax.data.cache import cached_file
from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.dataset import Dataset, joined, spread_rows
from xql_jax.data.episodes import read_npz_folder
from xql_jax.data.mapped import MappedDataset, map_dataset
from xql_jax.data.memory import bytes_in_memory, fits_in_memory
from xql_jax.data.minari import read_minari
from xql_jax.data.npz import read_npz, read_ogbench
from xql_jax.errors import UserError
from xql_jax.tasks import ONLINE_TASKS, Task

READERS = {".hdf5": read_hdf5, ".h5": read_hdf5, ".npz": read_npz}  # by suffix
PREFIXES = ("minari:", "ogbench:")


def load_dataset(
    task: Task | None, sources: Sequence[str], url: str | None = None, on_disk: bool | None = False
) -> Dataset | MappedDataset:
    """Reads the sources, or without any the task's own dataset, as they are: no preprocessing.

    Args:
        task: gives the dataset, and the episode limit for files without time-outs; None beside sources.
        sources: each a file (`.hdf5` or `.h5` in D4RL's layout, `.npz`), a folder of `.npz` episodes,
            `ogbench:FILE.npz`, `minari:ID` or `minari:FOLDER`. Several are joined, in their order. Empty for
            the task's own data, which are downloaded, or generated, where they are not at hand.
        url: of the task's own file, instead of D4RL's address.
        on_disk: use a single file from disk, see `MappedDataset`; None: if memory has no room for it.
    Raises:
        UserError: if there is no such file, its kind is unknown, it is unfit (see the readers), or the
            sources do not fit together.
    """
    if not sources:
        if task is None:
            raise UserError("no data: name a D4RL task or give a dataset file")
        sources = [str(_task_file(task, url))]
    elif url is not None:
        raise UserError(
            "--dataset_url is where a task's own dataset is downloaded from; --dataset replaces that"
        )
    limit = task.episode_limit if task else None
    file = Path(sources[0]).expanduser()
    if on_disk is not False and len(sources) == 1 and file.is_file() and file.suffix.lower() in READERS:
        if on_disk or not fits_in_memory(bytes_in_memory(file)):
            return map_dataset(file, limit)
    elif on_disk:
        raise UserError(f"--data_on=disk takes one .hdf5 or .npz file, not {', '.join(sources)}")
    return joined([_read_source(source, limit) for source in sources])


def _read_source(source: str, episode_limit: int | None) -> Dataset:
    kind, _, name = source.partition(":")
    if source in ("minari:", "ogbench:"):
        raise UserError(f"{source} names no dataset: write ogbench:FILE.npz, minari:ID or minari:FOLDER")
    if kind == "minari":
        return read_minari(name)
    if kind == "ogbench":
        return read_ogbench(Path(name).expanduser())
    path = Path(source).expanduser()
    if path.is_dir():
        if (path / "metadata.json").is_file() or (path / "data" / "metadata.json").is_file():
            raise UserError(
                f"{path}: a directory with a metadata.json; if it is a Minari dataset, give minari:{path}"
            )
        return read_npz_folder(path)
    if path.suffix.lower() not in READERS:
        raise UserError(
            f"{path}: unknown suffix {path.suffix!r} of a dataset file; known: {', '.join(READERS)}, "
            "a directory of .npz episodes, ogbench:FILE.npz, minari:ID"
        )
    return READERS[path.suffix.lower()](path, episode_limit)


def _task_file(task: Task, url: str | None) -> Path:
    if task.name in ONLINE_TASKS:
        raise UserError(
            f"{task.name} has no dataset: learn it with experiments/train_online.py, or give --dataset"
        )
    if task.dataset_url is None:
        if url is not None:
            raise UserError(f"{task.name} is generated on this machine: it takes no --dataset_url")
        from xql_jax.data.pointmaze import generated_file  # brings a simulator that no reader needs

        return generated_file(task)
    from xql_jax.data.download import download

    path = cached_file(task)
    download(url or task.dataset_url, path)
    return path


def share_beyond_bounds(dataset: Dataset | MappedDataset) -> float:
    """Returns the share of action entries beyond the tasks' bounds of ±1, of some thousand transitions."""
    actions = np.asarray(dataset.take(spread_rows(dataset.size)).actions)
    return float((np.abs(actions) > 1 + 1e-5).mean())


def check_spaces(dataset: Dataset | MappedDataset, observation_dim: int, action_dim: int, name: str) -> None:
    """Raises UserError unless the dataset's dimensions are those of the environment `name`."""
    for what, of_data, of_environment in (
        ("observations", dataset.observation_dim, observation_dim),
        ("actions", dataset.action_dim, action_dim),
    ):
        if of_data != of_environment:
            raise UserError(
                f"{dataset.source}: {what} have {of_data} entries, those of {name} have {of_environment}"
            )
