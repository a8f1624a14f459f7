"""The folder of dataset files: D4RL's own folder and names, so that files already downloaded are found.

Its subfolder `columns` is for files that are used from disk: each of their arrays is a `.npy` there, which is
memory-mapped.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tqdm

from xql_jax.data.dataset import brief
from xql_jax.data.memory import check_address_space, check_memory
from xql_jax.errors import Damaged, UserError
from xql_jax.files import locked_in_turn, read_record, sync, write_record
from xql_jax.tasks import Task

LOG = logging.getLogger(__name__)
BLOCK = 32 << 20  # bytes; about so much is in memory while a file's arrays are copied
RECORD = "columns.json"  # lists the files that were written


@dataclasses.dataclass(frozen=True)
class Column:
    """An array in a file, and how to write it as a `.npy`."""

    shape: tuple[int, ...]
    dtype: np.dtype
    num_bytes: int  # size of the `.npy`
    blocks: Callable[[], Iterator[bytes | memoryview]]  # its content, piece by piece; UserError if damaged
    obstacle: str = ""  # why it cannot be used from disk; empty if it can
    scratch: int = 0  # bytes of memory that reading it takes in addition to its own


def cache_folder() -> Path:
    """Returns `$D4RL_DATASET_DIR`, else `~/.d4rl/datasets`; it need not exist."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()


def cached_file(task: Task) -> Path:
    """Returns the path of the task's dataset, under D4RL's file name or that of a generated file."""
    name = task.dataset_url.rsplit("/", 1)[1] if task.dataset_url else f"{task.name}.hdf5"
    return cache_folder() / name


@dataclasses.dataclass(frozen=True)
class Watched:
    """A memory-mapped file and its state when it was opened, which shows later changes."""

    path: Path
    state: tuple[int, int, int]  # size, time of modification and inode number

    @classmethod
    def of(cls, path: Path) -> "Watched":
        return cls(path, _state(path))

    def check(self) -> None:
        """Raises UserError if the file has changed since it was opened."""
        try:
            if _state(self.path) == self.state:
                return
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}, while its numbers were in use") from error
        raise UserError(f"{self.path}: changed or replaced while its numbers were in use")


def _state(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


def cached_columns(path: Path, columns: Mapping[str, Column]) -> dict[str, np.memmap]:
    """Returns the columns of a file, memory-mapped. On first use they are written to a folder as KEY.npy.

    The folder appears only when it is complete, and survives a loss of power. A record in it gives the size
    and a digest of each file. If the source file changes (in size or time of modification), another folder is
    used. If several processes need the folder, one writes it; the others wait and use it.

    Raises:
        UserError: if the file is damaged, a column has an obstacle, the folder cannot be written, or the
            limit on addresses has no room for the columns.
    """
    for key, column in columns.items():
        if column.obstacle:
            raise UserError(f"{path}: {key} {column.obstacle}, not fit for use from disk; try --data_on=host")
    check_address_space(_num_bytes(columns), str(path))
    folder = _columns_folder(path)
    if not folder.exists():
        _write(path, columns, folder)
    try:
        _check_record(folder, columns)
        return {key: np.load(folder / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in columns}
    except (OSError, EOFError, ValueError, Damaged) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise UserError(f"{path}: the system does not map {folder}: {error.strerror}") from error
        raise UserError(f"{folder}: damaged ({brief(error)}); delete it, and it is made anew") from error


def _num_bytes(columns: Mapping[str, Column]) -> int:
    return sum(column.num_bytes for column in columns.values())


def _check_record(folder: Path, columns: Mapping[str, Column]) -> None:
    """Raises Damaged unless the files are those that were written.

    Their bytes are compared only if the time of modification differs, for example after a copy.
    """
    record = read_record(folder / RECORD)["files"]
    for key in columns:
        size, modified, digest = record.get(key, (None, None, None))
        status = (folder / f"{key}.npy").stat()
        if status.st_size != size:
            raise Damaged(f"{key}.npy has {status.st_size:,} bytes, {size} were written")
        if status.st_mtime_ns != modified and _digest(folder / f"{key}.npy") != digest:
            raise Damaged(f"{key}.npy has other bytes than were written")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _columns_folder(path: Path) -> Path:
    path = path.resolve()
    status = path.stat()
    version = os.fsencode(path) + f"\n{status.st_size}\n{status.st_mtime_ns}".encode()
    return cache_folder() / "columns" / f"{path.stem[:50]}-{hashlib.sha256(version).hexdigest()[:16]}"


def _write(path: Path, columns: Mapping[str, Column], folder: Path) -> None:
    size = f"{_num_bytes(columns) / 1e6:,.0f} MB"
    LOG.info(f"{path}: writing its arrays, {size}, to {folder}, from where they are used")
    unfinished = folder.with_name(folder.name + ".tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(folder.name + ".lock")
        with locked_in_turn(lock, "writing them", functools.partial(_progress, unfinished)):
            if not folder.exists():  # another process may have written it while this one waited
                _write_locked(path, columns, folder, unfinished)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot write the arrays of {path}: {error}; D4RL_DATASET_DIR may name another folder"
        ) from error


def _progress(unfinished: Path) -> int:
    """Returns the bytes that are in the folder so far."""
    with contextlib.suppress(OSError):  # it does not exist yet, or no longer
        return sum(file.stat().st_size for file in unfinished.iterdir())
    return 0


def _write_locked(path: Path, columns: Mapping[str, Column], folder: Path, unfinished: Path) -> None:
    shutil.rmtree(unfinished, ignore_errors=True)  # what a killed process has left
    total = _num_bytes(columns)
    free = shutil.disk_usage(folder.parent).free
    if free < total:
        raise UserError(
            f"{folder.parent}: the arrays of {path} need {total / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are "
            "free; make room, set D4RL_DATASET_DIR to another folder, or try --data_on=host"
        )
    scratch = max(column.scratch for column in columns.values())
    check_memory(scratch, str(path), "that much is unpacked at once; use a machine with more memory")
    try:
        unfinished.mkdir()
        with tqdm.tqdm(desc=path.name, total=total, unit="B", unit_scale=True, disable=None) as progress:
            files = {
                key: _write_column(column, unfinished / f"{key}.npy", progress, path)
                for key, column in columns.items()
            }
        write_record(unfinished / RECORD, {"source": str(path), "files": files})
        sync(unfinished)
        if _columns_folder(path) != folder:
            raise UserError(f"{path}: changed while its arrays were written to {folder.parent}; start again")
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_column(column: Column, target: Path, progress: tqdm.tqdm, path: Path) -> tuple[int, int, str]:
    """Writes a `.npy`; returns its size, its time of modification and a digest of its bytes."""
    digest = hashlib.sha256()
    # Not through a memory map: on a full disk, writing to one kills the process.
    with target.open("xb") as file:
        for block in column.blocks():
            digest.update(block)
            progress.update(file.write(block))
    sync(target)
    status = target.stat()
    if status.st_size != column.num_bytes:
        raise UserError(
            f"{path}: damaged: of {target.stem} it claims {column.num_bytes:,} bytes, and holds "
            f"{status.st_size:,}"
        )
    return status.st_size, status.st_mtime_ns, digest.hexdigest()
