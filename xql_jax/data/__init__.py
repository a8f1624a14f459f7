"""Datasets. The entry point is `load_dataset`."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.data.cache import cached_file
from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.dataset import BYTES_A_PASS, Dataset, brief, bytes_a_row, joined, spread_rows
from xql_jax.data.episodes import footprint_of_folder, read_npz_folder
from xql_jax.data.footprint import Footprint, of_columns, total
from xql_jax.data.mapped import MappedDataset, columns_of, map_dataset
from xql_jax.data.memory import check_memory, room_for_data
from xql_jax.data.minari import footprint_of_minari, read_minari
from xql_jax.data.npz import OGBENCH_KEYS, archive_columns, read_npz, read_ogbench
from xql_jax.errors import UserError
from xql_jax.tasks import COMPILED, ONLINE_TASKS, Task

SUFFIXES = (".hdf5", ".h5", ".npz")
PREFIXES = ("minari:", "ogbench:")
REMEDIES = {True: "--data_on=disk", False: "fewer sources, or one .hdf5 or .npz file with --data_on=disk"}


@dataclasses.dataclass(frozen=True)
class _Source:
    """One source of data: how to read it, and how much memory that takes."""

    read: Callable[[], Dataset]
    footprint: Callable[[], Footprint]  # from headers, without reading the data; UserError if it is damaged


def load_dataset(
    task: Task | None,
    sources: Sequence[str | Dataset],
    url: str | None = None,
    data_on: str | None = None,
    external_data: bool = False,
) -> Dataset | MappedDataset:
    """Loads the given sources, or the task's own dataset if there are none; does no preprocessing.

    Args:
        task: provides the dataset if `sources` is empty, and the episode limit for files without time-outs.
            It may be None if there are sources.
        sources: each a file (`.hdf5` or `.h5` in D4RL's layout, `.npz`), a folder of `.npz` episodes,
            `ogbench:FILE.npz`, `minari:ID` or `minari:FOLDER`; or a dataset that is in memory already.
            Several are concatenated in the given order. If empty, the task's own data are used; they are
            downloaded or generated if they are not on disk yet.
        url: address to download the task's own file from, instead of D4RL's; only without `sources`.
        data_on: the flag. "disk": leave the data on disk, see `MappedDataset`; there must be one file.
            "auto": do so if they are one file that does not fit into memory. "device", "host": read them into
            memory. None: the same, for commands without the flag: no message recommends it.
        external_data: whether HDF5 files may have arrays that are stored in other files.
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
    names = [name_of(source) for source in sources]
    file = Path(names[0]).expanduser()
    is_lone_file = isinstance(sources[0], str) and len(sources) == 1 and file.is_file()
    can_be_mapped = is_lone_file and file.suffix.lower() in SUFFIXES
    if data_on == "disk":
        if not can_be_mapped:
            raise UserError(f"--data_on=disk takes one .hdf5 or .npz file, not {', '.join(names)}")
        return map_dataset(file, limit, external_data)
    found = [_source(source, limit, external_data) for source in sources]
    needed = total([source.footprint() for source in found])
    if data_on == "auto" and can_be_mapped and needed > room_for_data():
        return map_dataset(file, limit, external_data)
    remedies = "a part of the data" if data_on is None else REMEDIES[can_be_mapped]
    check_memory(needed, brief(", ".join(names)), f"use a machine with more memory, or {remedies}")
    return joined([source.read() for source in found])


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


def name_of(source: str | Dataset) -> str:
    """Returns what a source of data is called in messages and in a run's config.json."""
    return source if isinstance(source, str) else source.source


def _source(source: str | Dataset, limit: int | None, external_data: bool) -> _Source:
    if isinstance(source, Dataset):
        return _Source(lambda: source, lambda: Footprint(0, 0))  # it is in memory already
    name = source
    kind, _, place = name.partition(":")
    if name in PREFIXES:
        raise UserError(f"{name} names no dataset: write ogbench:FILE.npz, minari:ID or minari:FOLDER")
    if kind == "minari":
        return _Source(
            functools.partial(read_minari, place),
            functools.partial(footprint_of_minari, place, external_data),
        )
    path = Path(place if kind == "ogbench" else name).expanduser()
    if kind == "ogbench":
        return _Source(
            functools.partial(read_ogbench, path),
            lambda: of_columns(archive_columns(path, OGBENCH_KEYS)),
        )
    if path.is_dir():
        if (path / "metadata.json").is_file() or (path / "data" / "metadata.json").is_file():
            raise UserError(
                f"{path}: a directory with a metadata.json; if it is a Minari dataset, give minari:{path}"
            )
        return _Source(functools.partial(read_npz_folder, path), functools.partial(footprint_of_folder, path))
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path}: unknown suffix {path.suffix!r} of a dataset file; known: {', '.join(SUFFIXES)}, "
            "a directory of .npz episodes, ogbench:FILE.npz, minari:ID"
        )
    if path.suffix.lower() == ".npz":
        read = functools.partial(read_npz, path, limit)
    else:
        read = functools.partial(read_hdf5, path, limit, external_data)
    return _Source(read, lambda: of_columns(columns_of(path, external_data)))


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
    from xql_jax.data.download import download

    path = cached_file(task)
    download(url or task.dataset_url, path)
    return path


def share_beyond_bounds(dataset: Dataset | MappedDataset) -> float:
    """Returns the share of action entries outside [-1, 1], the tasks' bounds, in up to 16,384 transitions."""
    rows = spread_rows(dataset.size)
    parts = np.array_split(rows, math.ceil(len(rows) * bytes_a_row(dataset) / BYTES_A_PASS))
    beyond = sum(int((np.abs(dataset.take(part).actions) > 1 + 1e-5).sum()) for part in parts)
    return beyond / (len(rows) * dataset.action_dim)


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
