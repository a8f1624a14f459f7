"""Where datasets lie: D4RL's own folder and file names, so that files that are there already are found.

Beside them, in `columns`, lie the arrays of files that are used from disk, each as a `.npy`, to be mapped.
"""

import dataclasses
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
import numpy as np
import tqdm

from xql_jax.errors import UserError
from xql_jax.files import sync
from xql_jax.tasks import Task

LOG = logging.getLogger(__name__)
BLOCK = 32 << 20  # bytes, of a file whose arrays are copied: about so much of it is in memory


@dataclasses.dataclass(frozen=True)
class Column:
    """An array in a file, and how to write it as a `.npy`."""

    shape: tuple[int, ...]
    num_bytes: int  # of the `.npy`
    blocks: Callable[[], Iterator[bytes | memoryview]]  # its content, piece by piece; UserError if damaged
    obstacle: str = ""  # why it cannot be used from disk, if it cannot


def cache_folder() -> Path:
    """Returns `$D4RL_DATASET_DIR`, else `~/.d4rl/datasets`; it need not exist."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()


def cached_file(task: Task) -> Path:
    """Returns the place of the task's dataset, under D4RL's file name or that of a generated one."""
    name = task.dataset_url.rsplit("/", 1)[1] if task.dataset_url else f"{task.name}.hdf5"
    return cache_folder() / name


def cached_columns(path: Path, columns: Mapping[str, Column]) -> dict[str, np.memmap]:
    """Returns the columns of a file, mapped. On first use they are written to a folder as KEY.npy.

    The folder appears whole, and stays so after a loss of power. A file that has changed since (its size or
    its time of modification) gets another one. Of several processes one writes, the others wait and use its
    folder.

    Raises:
        UserError: if the file is damaged, a column has an obstacle, or the disk is full or refuses.
    """
    for key, column in columns.items():
        if column.obstacle:
            raise UserError(f"{path}: {key} {column.obstacle}, not fit for use from disk; try --data_on=host")
    folder = _columns_folder(path)
    if not folder.exists():
        _write(path, columns, folder)
    try:
        return {key: np.load(folder / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in columns}
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{folder}: damaged ({error}); delete it, and it is made anew") from error


def _columns_folder(path: Path) -> Path:
    path = path.resolve()
    status = path.stat()
    version = os.fsencode(path) + f"\n{status.st_size}\n{status.st_mtime_ns}".encode()
    return cache_folder() / "columns" / f"{path.stem[:50]}-{hashlib.sha256(version).hexdigest()[:16]}"


def _write(path: Path, columns: Mapping[str, Column], folder: Path) -> None:
    total = sum(column.num_bytes for column in columns.values())
    LOG.info(f"{path}: writing its arrays, {total / 1e6:,.0f} MB, to {folder}, from where they are used")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_name(folder.name + ".lock")):
            if not folder.exists():  # another process may have written it while this one waited
                _write_locked(path, columns, total, folder)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the arrays of {path}: {error}; D4RL_DATASET_DIR may name another folder"
        ) from error


def _write_locked(path: Path, columns: Mapping[str, Column], total: int, folder: Path) -> None:
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)  # what a killed process has left
    free = shutil.disk_usage(folder.parent).free
    if free < total:
        raise UserError(
            f"{folder.parent}: the arrays of {path} need {total / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are "
            "free; make room, set D4RL_DATASET_DIR to another folder, or try --data_on=host"
        )
    try:
        unfinished.mkdir()
        with tqdm.tqdm(desc=path.name, total=total, unit="B", unit_scale=True, disable=None) as progress:
            for key, column in columns.items():
                # Not through a map: on a full disk, to write into one ends the process.
                with (unfinished / f"{key}.npy").open("wb") as file:
                    for block in column.blocks():
                        progress.update(file.write(block))
                sync(unfinished / f"{key}.npy")
        sync(unfinished)
        if _columns_folder(path) != folder:
            raise UserError(f"{path}: changed while its arrays were written to {folder.parent}; start again")
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
