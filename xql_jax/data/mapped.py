"""Datasets larger than memory: columns on disk are memory-mapped, transitions gathered when drawn."""

import concurrent.futures
import contextlib
import dataclasses
import mmap
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.data.cache import Column, Watched, cached_columns
from xql_jax.data.d4rl_hdf5 import (
    counted_timeouts,
    hdf5_columns,
    no_timeouts,
    read_references,
    rows_left_out,
    warn_of_lost_rewards,
)
from xql_jax.data.dataset import RANKS, fingerprint, is_jump
from xql_jax.data.npz import archive_keys, npz_columns, ogbench_or_not, terminals_of
from xql_jax.errors import UserError
from xql_jax.tasks import References
from xql_jax.types import AnyBatch, Batch

NUM_THREADS = 8  # that gather at once: on a cold disk they wait, and their waits overlap
MAX_ROWS = 2**31 - 1  # rows are drawn as 32-bit integers
ROWS_A_PASS = 1 << 22  # rows of a column that are processed at a time: some megabytes
THREADS = concurrent.futures.ThreadPoolExecutor(NUM_THREADS, "gather")  # started when they are needed


@dataclasses.dataclass(frozen=True)
class MappedDataset:
    """N transitions in file order, on disk. `Dataset` is its counterpart in memory.

    A `Dataset` is checked when it is read; the numbers here are checked when they are drawn.

    If another process writes to a mapped file, its bytes are read from then on. If it shortens the file,
    reading beyond the end kills this process. So each draw checks, before and after gathering, that no file
    has changed.
    """

    arrays: Mapping[str, np.ndarray]  # mapped, [R, ...]; the keys are those of D4RL's layout
    gaps: np.ndarray  # i64[G], for each row that starts no transition: the transitions before it
    size: int  # N = R - G
    source: str  # the file, for messages
    files: tuple[Watched, ...] = ()  # the mapped files
    transforms: tuple[Callable[[AnyBatch], AnyBatch], ...] = ()  # applied to the rows drawn
    references: References | None = None  # if the data contain them

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
            UserError: naming the first row drawn that holds NaN or infinity; or if a file has changed since
                it was opened.
        """
        self._check_files()
        parts = np.array_split(indices, min(NUM_THREADS, max(1, len(indices) // 1024)))
        batches = list(THREADS.map(self._take, parts))
        self._check_files()  # what was written meanwhile may have been read
        fields: tuple[Any, ...] = tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))
        batch: AnyBatch = Batch(*fields)
        for transform in self.transforms:
            batch = transform(batch)
        return batch

    def trajectory_returns(self) -> np.ndarray:
        """Returns f64[T], the undiscounted return of each trajectory; reads two whole columns of the file.

        For a file of transitions, it also reads the observations, to find the jumps between trajectories.
        """
        self._check_files()
        num_rows = len(self.arrays["rewards"])
        left_out, parts = np.zeros(num_rows, bool), np.zeros(num_rows + 1, bool)
        left_out[self._left_out] = True
        parts[self._left_out], parts[-1] = self._parting(), True  # rows before which a trajectory ends
        totals, total = [np.zeros(1)], 0.0  # cumulative rewards at the trajectories' ends
        for start in range(0, num_rows, ROWS_A_PASS):
            part = slice(start, min(start + ROWS_A_PASS, num_rows))
            is_end = parts[part.start + 1 : part.stop + 1].copy()
            for key in ("terminals", "timeouts"):
                if key in self.arrays:
                    is_end |= self.arrays[key][part].reshape(-1) != 0
            if "next_observations" in self.arrays:
                is_end |= self._jumps(part.start, part.stop)
            kept = ~left_out[part]
            rewards = self.arrays["rewards"][part].reshape(-1)[kept].astype(np.float32)  # as they are drawn
            # The sum so far goes in front: rewards are added one by one, as in memory, so all bits are equal.
            sums = np.cumsum(np.append(total, rewards.astype(np.float64)))[1:]
            totals.append(sums[is_end[kept]])
            total = sums[-1] if len(sums) else total
        return np.diff(np.concatenate(totals))

    @property
    def _left_out(self) -> np.ndarray:
        """The rows that start no transition, i64[G], ascending."""
        return self.gaps + np.arange(len(self.gaps))

    def _parting(self) -> np.ndarray:
        """Returns bool[G]: whether a trajectory ends before a row that is left out, as it does in memory.

        Such a row is the next observation of the row before it. A trajectory ends there if the next row that
        is not left out has another observation.
        """
        rows, observations = self._left_out, self.arrays["observations"]
        last_of_block = np.flatnonzero(np.diff(rows, append=-1) != 1)
        following = rows[last_of_block][np.searchsorted(last_of_block, np.arange(len(rows)))] + 1
        inside = following < len(observations)
        parting = np.ones(len(rows), bool)  # nothing follows the file's last rows
        pair = (np.asarray(observations[of[inside]], np.float32) for of in (rows, following))
        parting[inside] = is_jump(*pair)
        return parting

    def _jumps(self, start: int, stop: int) -> np.ndarray:
        """Returns bool[stop - start], true if a next observation is not the next row's, as in memory."""
        observations = self.arrays["observations"][start + 1 : stop + 1].astype(np.float32)
        following = self.arrays["next_observations"][start : start + len(observations)].astype(np.float32)
        jumps = np.ones(stop - start, bool)  # the file's last row is an end
        jumps[: len(observations)] = is_jump(following, observations)
        return jumps

    def fingerprint(self) -> str:
        """Returns the same as `Dataset.fingerprint` for the same file."""
        return fingerprint(self)

    def _check_files(self) -> None:
        for file in self.files:
            file.check()

    def _take(self, indices: np.ndarray) -> Batch:
        rows = indices + np.searchsorted(self.gaps, indices, side="right")
        has_next = "next_observations" in self.arrays
        last = len(self.arrays["observations"]) - 1  # which has no next row; it is terminal, or left out
        following = ("next_observations", rows) if has_next else ("observations", np.minimum(rows + 1, last))
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
        taken = np.take(np.asarray(self.arrays[key]), rows, axis=0)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf and is refused below
            taken = taken.astype(np.float32, copy=False)
        if not np.isfinite(taken).all():
            place = tuple(np.argwhere(~np.isfinite(taken))[0])
            raise UserError(f"{self.source}: {key} holds {taken[place]} at row {rows[place[0]]}")
        return taken


def map_dataset(path: Path, episode_limit: int | None, external_data: bool = False) -> MappedDataset:
    """Memory-maps a file of transitions, or of rows in D4RL's layout, with `qlearning_dataset`'s semantics.

    Its arrays are written to the cache on first use, see `cached_columns`.

    Args:
        path: a `.npz` or an HDF5 file.
        episode_limit: steps, for rows without timeouts; None if no limit is known.
        external_data: whether arrays in other files are allowed. They are refused here all the same, but then
            the message does not advise to allow them.
    Raises:
        UserError: if the file is damaged, lacks an array or its arrays disagree; also as `cached_columns`.
    """
    columns = columns_of(path, external_data)
    _check_shapes(columns, path)
    mapped = cached_columns(path, columns)
    files = tuple(Watched.of(Path(str(array.filename))) for array in mapped.values())
    arrays: dict[str, np.ndarray] = dict(mapped)
    if "masks" in arrays:
        arrays["terminals"] = terminals_of(arrays, path)
    if "ends" in arrays and "timeouts" not in arrays:
        arrays["timeouts"] = (arrays["ends"].reshape(-1) != 0) & (arrays["terminals"].reshape(-1) == 0)
    num_rows = len(arrays["rewards"])
    left_out = np.zeros(0, np.int64)
    if "next_observations" not in arrays:
        left_out = _rows_left_out(arrays, episode_limit, path)
    gaps = left_out - np.arange(len(left_out))
    if num_rows == len(gaps):
        raise UserError(f"{path}: no transition is left, every row but the last is a time-out")
    given, lost = (int(np.count_nonzero(x)) for x in (arrays["rewards"], arrays["rewards"][left_out]))
    warn_of_lost_rewards(given, given - lost, str(path))
    for array in mapped.values():
        if isinstance(array.base, mmap.mmap):
            array.base.madvise(mmap.MADV_RANDOM)  # draws are random: a row's neighbours are not worth reading
    references = None if path.suffix.lower() == ".npz" else read_references(path, external_data)
    return MappedDataset(arrays, gaps, num_rows - len(gaps), str(path), files, references=references)


def columns_of(path: Path, external_data: bool = False) -> dict[str, Column]:
    """Returns the arrays of a `.npz` or an HDF5 file that training needs; UserError if it lacks one."""
    return npz_columns(path) if path.suffix.lower() == ".npz" else hdf5_columns(path, external_data)


def read_ahead(dataset: MappedDataset) -> None:
    """Reads the columns once in the background, small ones first, so that free memory caches them.

    Random draws from a cold disk take a thousand times as long as a sequential pass over as many rows.
    """

    mapped = [array for array in dataset.arrays.values() if isinstance(array, np.memmap)]

    def read() -> None:
        with contextlib.suppress(OSError):  # if the disk fails, the next draw reports it
            for array in sorted(mapped, key=lambda array: array.nbytes):
                with Path(str(array.filename)).open("rb", buffering=0) as file:
                    while file.read(1 << 24):
                        pass

    threading.Thread(target=read, name="read ahead", daemon=True).start()


def _rows_left_out(arrays: Mapping[str, np.ndarray], episode_limit: int | None, path: Path) -> np.ndarray:
    """Returns i64[G], the rows that become no transition, as in memory."""
    is_npz = path.suffix.lower() == ".npz"
    terminals = arrays["terminals"].reshape(-1) != 0
    if "timeouts" in arrays:
        timeouts = arrays["timeouts"].reshape(-1) != 0
    elif is_npz and "qpos" in archive_keys(path):
        raise UserError(ogbench_or_not(path))
    elif episode_limit is None:
        raise UserError(no_timeouts(str(path)))
    else:
        timeouts = counted_timeouts(terminals, episode_limit)
    return np.flatnonzero(rows_left_out(terminals, timeouts, keeps_last=is_npz))


def _check_shapes(columns: Mapping[str, Column], path: Path) -> None:
    shapes = {key: column.shape for key, column in columns.items()}
    num_rows = shapes["observations"][0] if shapes["observations"] else 0
    for key, shape in shapes.items():
        width = shape[1:]
        fits = len(width) == 1 and width[0] > 0 if RANKS[key] == 2 else width in ((), (1,))
        if not shape or not fits:
            raise UserError(f"{path}: {key} has shape {shape}, which cannot be used here")
        if shape[0] != num_rows or num_rows < 2:
            raise UserError(
                f"{path}: {key} has {shape[0]} rows, observations {num_rows}; at least 2 are needed"
            )
    if "next_observations" in shapes and shapes["next_observations"] != shapes["observations"]:
        raise UserError(f"{path}: next_observations and observations have different shapes")
    if num_rows > MAX_ROWS:
        raise UserError(f"{path}: {num_rows:,} rows; at most {MAX_ROWS:,} can be drawn from")
