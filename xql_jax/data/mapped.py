"""Datasets larger than memory: their files are mapped, and transitions gathered when they are drawn."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import math
import mmap
import os
import struct
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xql_jax.data.d4rl_hdf5 import H5PY_ERRORS, counted_timeouts
from xql_jax.data.dataset import RANKS, check_file, fingerprint, is_jump
from xql_jax.data.npz import ogbench_or_not, terminals_of
from xql_jax.errors import UserError
from xql_jax.types import AnyBatch, Batch

REQUIRED = ("observations", "actions", "rewards", "terminals")
NUM_THREADS = 8  # that gather at once: on a cold disk they wait, and waits overlap
MAX_ROWS = 2**31 - 1  # draws are of 32 bits
ROWS_A_PASS = 1 << 22  # of a column that is gone through: some megabytes of it at a time


@dataclasses.dataclass(frozen=True)
class MappedDataset:
    """Transitions in file order, N of them, on disk. `Dataset` is its twin in memory.

    Where `Dataset` is checked when it is read, the numbers here are checked when they are drawn.
    """

    arrays: Mapping[str, np.ndarray]  # mapped, [R, ...]; the keys are those of D4RL's layout
    gaps: np.ndarray  # i64[G], of each row that is no transition's first: how many transitions come before it
    size: int  # N = R - G
    source: str  # the file, for messages
    transforms: tuple[Callable[[AnyBatch], AnyBatch], ...] = ()  # of rows, applied to what is drawn

    @property
    def observation_dim(self) -> int:
        return self.arrays["observations"].shape[1]

    @property
    def action_dim(self) -> int:
        return self.arrays["actions"].shape[1]

    def apply(self, transform: Callable[[AnyBatch], AnyBatch]) -> "MappedDataset":
        """Returns the dataset with `transform`, which looks at one row at a time, applied to all rows."""
        return dataclasses.replace(self, transforms=(*self.transforms, transform))

    def take(self, indices: np.ndarray) -> AnyBatch:
        """Returns transitions i64[K], each below N, in that order: float32 fields [K, ...].

        Raises:
            UserError: naming the first row drawn that holds NaN or infinity.
        """
        parts = np.array_split(indices, min(NUM_THREADS, max(1, len(indices) // 1024)))
        batches = list(_threads().map(self._take, parts))
        fields: tuple[Any, ...] = tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))
        batch: AnyBatch = Batch(*fields)
        for transform in self.transforms:
            batch = transform(batch)
        return batch

    def trajectory_returns(self) -> np.ndarray:
        """Returns f64[T], the undiscounted return of each trajectory; goes through two columns of the file.

        For a file of transitions, whose jumps are to be found, it goes through the observations, too.
        """
        num_rows = len(self.arrays["rewards"])
        totals, total = [np.zeros(1)], 0.0  # rewards so far, at the trajectories' ends
        for start in range(0, num_rows, ROWS_A_PASS):
            part = slice(start, min(start + ROWS_A_PASS, num_rows))
            left_out = self._left_out(part.start, part.stop + 1)
            is_end = left_out[1:].copy()  # what precedes a row that is left out is the last of its trajectory
            for key in ("terminals", "timeouts"):
                if key in self.arrays:
                    is_end |= self.arrays[key][part].reshape(-1) != 0
            if "next_observations" in self.arrays:
                is_end |= self._jumps(part.start, part.stop)
            kept = ~left_out[:-1]
            rewards = self.arrays["rewards"][part].reshape(-1)[kept].astype(np.float32)  # as they are drawn
            # The sum so far goes in front: added up one by one, as in memory, to the last bit.
            sums = np.cumsum(np.append(total, rewards.astype(np.float64)))[1:]
            totals.append(sums[is_end[kept]])
            total = sums[-1] if len(sums) else total
        return np.diff(np.concatenate(totals))

    def _jumps(self, start: int, stop: int) -> np.ndarray:
        """bool[stop - start], the transitions whose next observation is not the next row's, as in memory."""
        observations = self.arrays["observations"][start + 1 : stop + 1].astype(np.float32)
        following = self.arrays["next_observations"][start : start + len(observations)].astype(np.float32)
        jumps = np.ones(stop - start, bool)  # the file's last row is an end
        jumps[: len(observations)] = is_jump(following, observations)
        return jumps

    def fingerprint(self) -> str:
        """As `Dataset.fingerprint`: the same for the same file."""
        return fingerprint(self)

    def _left_out(self, start: int, stop: int) -> np.ndarray:
        """bool[stop - start], the rows that are no transition's first; so are all beyond the last."""
        rows = self.gaps + np.arange(len(self.gaps))
        mask = np.arange(start, stop) >= len(self.arrays["rewards"])
        mask[rows[(rows >= start) & (rows < stop)] - start] = True
        return mask

    def _take(self, indices: np.ndarray) -> Batch:
        rows = indices + np.searchsorted(self.gaps, indices, side="right")
        has_next = "next_observations" in self.arrays
        following = ("next_observations", rows) if has_next else ("observations", rows + 1)
        fields: tuple[Any, ...] = (
            self._gather("observations", rows),
            self._gather("actions", rows),
            self._column("rewards", rows),
            np.float32(1.0) - (self._column("terminals", rows) != 0),
            self._gather(*following),
        )
        return Batch(*fields)

    def _column(self, key: str, rows: np.ndarray) -> np.ndarray:
        return self._gather(key, rows).reshape(-1)

    def _gather(self, key: str, rows: np.ndarray) -> np.ndarray:
        array = self.arrays[key]
        # As bytes: where an array of numbers lies between two addresses of its kind, as most in an .npz do,
        # `take` would copy all of it first.
        taken = np.take(array.reshape(len(array), -1).view(np.uint8), rows, axis=0).view(array.dtype)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf and is refused below
            taken = taken.astype(np.float32, copy=False)
        if not np.isfinite(taken).all():
            place = tuple(np.argwhere(~np.isfinite(taken))[0])
            raise UserError(f"{self.source}: {key} holds {taken[place]} at row {rows[place[0]]}")
        return taken


def map_dataset(path: Path, episode_limit: int | None) -> MappedDataset:
    """Maps a file of transitions, or of rows in D4RL's layout, with `qlearning_dataset`'s semantics.

    Args:
        path: an uncompressed `.npz`, or an HDF5 file whose arrays are contiguous, not in chunks.
        episode_limit: steps, for rows without timeouts; None where no limit is known.
    Raises:
        UserError: if the file cannot be mapped, lacks an array or its arrays disagree.
    """
    check_file(path)
    content = _mapped(path)
    arrays = _map_npz(path, content) if path.suffix.lower() == ".npz" else _map_hdf5(path, content)
    if "masks" in arrays:
        arrays["terminals"] = terminals_of(arrays, path)
    if "ends" in arrays and "timeouts" not in arrays:
        arrays["timeouts"] = (arrays["ends"].reshape(-1) != 0) & (arrays["terminals"].reshape(-1) == 0)
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise UserError(f"{path}: no array {', '.join(missing)}; the file holds {', '.join(arrays)}")
    _check_shapes({key: array for key, array in arrays.items() if key in RANKS}, path)
    if len(arrays["rewards"]) > MAX_ROWS:
        raise UserError(f"{path}: {len(arrays['rewards']):,} rows; at most {MAX_ROWS:,} can be drawn from")
    num_rows = len(arrays["rewards"])
    left_out = np.zeros(0, np.int64)
    if "next_observations" not in arrays:
        left_out = np.append(_timeouts(arrays, episode_limit, path), num_rows - 1)
    gaps = left_out - np.arange(len(left_out))
    if num_rows == len(gaps):
        raise UserError(f"{path}: no transition is left, every row but the last is a time-out")
    content.madvise(mmap.MADV_RANDOM)  # from here on what lies beside a row is not worth reading
    return MappedDataset(arrays, gaps, num_rows - len(gaps), str(path))


def bytes_in_memory(path: Path) -> int:
    """How many bytes the arrays of an HDF5 file or an `.npz` take once they are read; 0 if it is damaged."""
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                return sum(members[key].file_size for key in RANKS if key in members)
        with h5py.File(path, "r") as file:
            arrays = (file[key] for key in (*REQUIRED, "timeouts") if key in file)
            return sum(array.nbytes for array in arrays if isinstance(array, h5py.Dataset))
    except (*H5PY_ERRORS, zipfile.BadZipFile):
        return 0  # the reader says what is wrong with it


def read_ahead(path: Path) -> None:
    """Reads the file once in the background, from its start: what memory is free then holds it.

    Random draws from a cold disk take a thousand times longer than a pass over it does for as many rows.
    """

    def read() -> None:
        # Where the disk fails, who draws from it is told.
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass

    threading.Thread(target=read, name="read ahead", daemon=True).start()


def _timeouts(arrays: Mapping[str, np.ndarray], episode_limit: int | None, path: Path) -> np.ndarray:
    """i64[G], the rows but for the last that D4RL drops as time-outs."""
    if "timeouts" in arrays:
        return np.flatnonzero(arrays["timeouts"].reshape(-1)[:-1])
    if "qpos" in arrays:
        raise UserError(ogbench_or_not(path))
    if episode_limit is None:
        raise UserError(f"{path}: no timeouts, and no task whose episode limit could stand in for them")
    return np.flatnonzero(counted_timeouts(arrays["terminals"].reshape(-1) != 0, episode_limit)[:-1])


def _check_shapes(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    num_rows = len(arrays["observations"]) if arrays["observations"].ndim else 0
    for key, array in arrays.items():
        width = array.shape[1:]
        fits = len(width) == 1 and width[0] > 0 if RANKS[key] == 2 else width in ((), (1,))
        if array.dtype.kind not in "biuf" or array.ndim == 0 or not fits:
            raise UserError(f"{path}: {key} has shape {array.shape} and type {array.dtype}, of no use here")
        if len(array) != num_rows or num_rows < 2:
            raise UserError(
                f"{path}: {key} has {len(array)} rows, observations {num_rows}; at least 2 are needed"
            )
    if "next_observations" in arrays and arrays["next_observations"].shape != arrays["observations"].shape:
        raise UserError(f"{path}: next_observations and observations have different shapes")


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _array(content: mmap.mmap, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> np.ndarray:
    return np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape)


def _map_hdf5(path: Path, content: mmap.mmap) -> dict[str, np.ndarray]:
    try:
        with h5py.File(path, "r") as file:
            members = {key: file[key] for key in (*REQUIRED, "timeouts") if key in file}
            return {key: _map_hdf5_array(path, content, member) for key, member in members.items()}
    except H5PY_ERRORS as error:
        raise UserError(f"{path}: not a readable HDF5 file ({error})") from error


def _map_hdf5_array(path: Path, content: mmap.mmap, member: h5py.Dataset) -> np.ndarray:
    if not isinstance(member, h5py.Dataset) or not member.size:
        return np.zeros(getattr(member, "shape", None) or 0)  # of no use, as `_check_shapes` will say
    offset = member.id.get_offset()  # None where the bytes are in chunks, or not in this file
    if offset is None:
        raise UserError(
            f"{path}: cannot be used from disk, where data stays that is large for the memory: {member.name} "
            f"is stored in chunks; rewrite it with `h5repack -l CONTI -f NONE {path} NEW.hdf5`, or try with "
            "--data_on=host whether the memory is enough after all"
        )
    return _array(content, member.dtype, member.shape, offset)


def _map_npz(path: Path, content: mmap.mmap) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            keys = [key for key in (*RANKS, "qpos") if key in members]
            return {key: _map_npz_array(path, content, members[key]) for key in keys}
    except (OSError, EOFError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable .npz archive ({error})") from error


def _map_npz_array(path: Path, content: mmap.mmap, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED:
        raise UserError(
            f"{path}: cannot be used from disk, where data stays that is large for the memory: "
            f"{member.filename} is compressed; write the archive with numpy.savez, or try with "
            "--data_on=host whether the memory is enough after all"
        )
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)  # a zip entry's own header: 30 bytes, its name, an extra field
        name_length, extra_length = struct.unpack("<HH", file.read(4))
        file.seek(name_length + extra_length, os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = read_header(file)
        if fortran_order or dtype.hasobject:
            raise UserError(f"{path}: {member.filename} is not stored row by row, and cannot be mapped")
        return _array(content, dtype, shape, file.tell())


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(NUM_THREADS, "gather")
