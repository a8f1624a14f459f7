"""Loads datasets from all sources: files, folders, libraries, and the tasks' own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.dataset import PREFIXES, SUFFIXES, Dataset, joined, spread_rows
from xql_jax.data.download import cached_file, download_file
from xql_jax.data.episodes import read_minari, read_npz_folder
from xql_jax.data.npz import read_npz, read_ogbench
from xql_jax.errors import UserError
from xql_jax.tasks import COMPILED, ONLINE_TASKS, Task


def load_dataset(task: Task | None, sources: Sequence[str | Dataset], url: str | None = None) -> Dataset:
    """Loads the given sources, or the task's own dataset if there are none; does no preprocessing.

    Args:
        task: provides the dataset if `sources` is empty, and the episode limit for files without time-outs.
            It may be None if there are sources.
        sources: each a file (`.hdf5` or `.h5` in D4RL's layout, `.npz`), a folder of `.npz` episodes,
            `ogbench:FILE.npz`, `minari:ID` or `minari:FOLDER`; or a dataset that is in memory already.
            Several are concatenated in the given order. If empty, the task's own data are used; they are
            downloaded or generated if they are not on disk yet.
        url: address to download the task's own file from, instead of D4RL's; only without `sources`.
    Raises:
        UserError: if there are no data, a file is missing, its kind is unknown, its content cannot be used,
            the download fails, the sources do not fit together or into memory, or an argument does not go
            with the sources.
    """
    if not sources:
        if task is None:
            raise UserError("no data: name a D4RL task or give a dataset file")
        sources = [str(task_file(task, url))]
    elif url is not None:
        raise UserError(
            "--dataset_url is where a task's own dataset is downloaded from; --dataset replaces that"
        )
    limit = task.episode_limit if task else None
    return joined(
        [source if isinstance(source, Dataset) else read_source(source, limit) for source in sources]
    )


def read_source(source: str, episode_limit: int | None) -> Dataset:
    """Reads one source of `load_dataset` into memory.

    Args:
        source: its name.
        episode_limit: steps, for rows without time-outs; None if no limit is known.
    Raises:
        UserError: naming the source, if there is none of that name, or it cannot be used.
    """
    if source in PREFIXES:
        raise UserError(f"{source} names no dataset: write ogbench:FILE.npz, minari:ID or minari:FOLDER")
    kind, _, place = source.partition(":")
    if kind == "minari":
        return read_minari(place)
    if kind == "ogbench":
        return read_ogbench(Path(place).expanduser())
    path = Path(source).expanduser()
    if path.is_dir():
        if (path / "metadata.json").is_file() or (path / "data" / "metadata.json").is_file():
            raise UserError(
                f"{path}: a directory with a metadata.json; if it is a Minari dataset, give minari:{path}"
            )
        return read_npz_folder(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path}: unknown suffix {path.suffix!r} of a dataset file; known: {', '.join(SUFFIXES)}, "
            "a directory of .npz episodes, ogbench:FILE.npz, minari:ID"
        )
    read = read_npz if path.suffix.lower() == ".npz" else read_hdf5
    return read(path, episode_limit)


def stamps(task: Task | None, sources: Sequence[str | Dataset]) -> list[list[Any]] | None:
    """Returns name, size in bytes and time of modification in ns of each file that `load_dataset` reads.

    If they are equal, the data are taken to be the same without being read.

    Returns:
        None if a file is missing, or if it is not known which files they are (`minari:ID`, data in memory).
    """
    found = []
    for source in sources or ([str(cached_file(task))] if task else []):
        if not isinstance(source, str):
            return None
        path = Path(source.partition(":")[2] if source.startswith(PREFIXES) else source).expanduser()
        try:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                state = file.stat()
                found.append([file.name, state.st_size, state.st_mtime_ns])
        except OSError:
            return None
    return found


def task_file(task: Task, url: str | None = None) -> Path:
    """Returns the path of the task's own dataset, which is downloaded or generated if it is not there.

    Args:
        url: where to download it from; None for D4RL's address.
    Raises:
        UserError: if the task has no dataset, or the download fails.
    """
    if task.name in ONLINE_TASKS or task.suite == COMPILED:
        raise UserError(
            f"{task.name} has no dataset: learn it with experiments/train_online.py, or give --dataset"
        )
    if task.dataset_url is None:
        if url is not None:
            raise UserError(f"{task.name} is generated on this machine: it takes no --dataset_url")
        # Imported here because it loads a simulator, which readers do not need.
        from xql_jax.data.pointmaze import generated_file

        return generated_file(task)
    path = cached_file(task)
    download_file(url or task.dataset_url, path)
    return path


def share_beyond_bounds(dataset: Dataset) -> float:
    """Returns the share of action entries outside [-1, 1], the tasks' bounds, in up to 16,384 transitions."""
    actions = np.asarray(dataset.batch.actions)[spread_rows(dataset.size)]
    return float((np.abs(actions) > 1 + 1e-5).mean())


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
