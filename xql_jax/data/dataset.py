"""A dataset in memory, and the one place where arrays that came from a file are checked."""

import contextlib
import dataclasses
import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from xql_jax.data.windows import Trajectories
from xql_jax.errors import UserError, printable
from xql_jax.tasks import References
from xql_jax.types import AnyBatch, Batch

SUFFIXES = (".hdf5", ".h5", ".npz")  # of data files
PREFIXES = ("minari:", "ogbench:")  # of sources that are no plain files

LOG = logging.getLogger(__name__)
ROWS_OF_SAMPLE = 16_384
JUMP = 1e-6  # a next observation farther than this from the next row's observation ends a trajectory
LONGEST_QUOTE = 300  # characters

# What the keys of a file must look like: the number of axes, rows first.
RANKS = {
    "observations": 2,
    "actions": 2,
    "next_observations": 2,
    "rewards": 1,
    "terminals": 1,
    "masks": 1,
    "timeouts": 1,
    "ends": 1,
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Transitions in file order, N of them, on the host."""

    # NumPy float32, C-contiguous, the leading axis is all transitions. Or Trajectories, to draw windows from.
    batch: Any
    ends: np.ndarray  # bool[N], each trajectory's last transition: a terminal, a time-out, a jump in the data
    source: str  # the file or files, for messages
    references: References | None = None  # if the data contain them

    @property
    def size(self) -> int:
        """N, the number of transitions."""
        return len(self.ends)

    @property
    def observation_dim(self) -> int:
        return self.batch.observations.shape[1]

    @property
    def action_dim(self) -> int:
        return self.batch.actions.shape[1]

    def take(self, indices: np.ndarray) -> Any:
        """Returns transitions i64[K], each below N, in that order: float32 fields [K, ...]; or windows."""
        if isinstance(self.batch, Trajectories):
            return self.batch.windows(indices)
        return jax.tree.map(lambda field: np.take(field, indices, axis=0), self.batch)

    def part(self, rows: np.ndarray) -> "Dataset":
        """Returns the dataset of these rows i64[K] only, in that order."""
        return dataclasses.replace(self, batch=self.take(rows), ends=self.ends[rows])

    def apply(self, transform: Callable[[AnyBatch], AnyBatch]) -> "Dataset":
        """Returns the dataset with `transform`, which looks at one row at a time, applied to all rows."""
        return dataclasses.replace(self, batch=transform(self.batch))

    def trajectory_returns(self) -> np.ndarray:
        """Returns f64[T], the undiscounted return of each trajectory in reward units, in file order."""
        sums = np.cumsum(np.asarray(self.batch.rewards, np.float64))
        return np.diff(sums[self.ends], prepend=0.0)

    def fingerprint(self) -> str:
        """Returns a digest of the size and of all transitions, without `ends` and the length of windows.

        It is part of a run's identity, so a run is never resumed with other data of the same name.
        """
        data, digest = self, hashlib.sha256(str(self.size).encode())
        if isinstance(self.batch, Trajectories):
            data = dataclasses.replace(self, batch=dataclasses.replace(self.batch, length=1))
        for start in range(0, self.size, ROWS_OF_SAMPLE):
            for field in data.take(np.arange(start, min(start + ROWS_OF_SAMPLE, self.size))):
                digest.update(np.ascontiguousarray(field).data)
        return digest.hexdigest()[:16]


def spread_rows(size: int) -> np.ndarray:
    """Returns i64[K], up to 16,384 row numbers spread evenly over the data; all rows of small data."""
    return np.linspace(0, size - 1, min(size, ROWS_OF_SAMPLE)).astype(np.int64)


def drawn_rows(size: int, number: int, seed: int) -> np.ndarray:
    """Returns i64[number], rows drawn without replacement in ascending order, the same for the same seed."""
    return np.sort(np.random.default_rng(seed).permutation(size)[:number])


def brief(said: object) -> str:
    """Returns a library's message or names from a file, shortened to one line and without escapes."""
    return printable(" ".join(str(said).split()), LONGEST_QUOTE)


def check_file(path: Path) -> None:
    """Raises UserError unless `path` is a file with something in it."""
    if not path.is_file():
        raise UserError(f"{path}: " + ("a directory, not a file" if path.is_dir() else "no such file"))
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes)")


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Context manager that names the file in whatever a library raises while it is read.

    Args:
        path: the file, which must be there.
        what: the kind of file that it should be, for the message.
    Raises:
        UserError: instead of any exception.
    """
    check_file(path)
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path}: too large for the memory there is, or damaged ({brief(error)})") from error
    except Exception as error:  # h5py, zipfile, zlib and NumPy raise almost anything for a damaged file
        raise UserError(f"{path}: not a readable {what} ({brief(error)})") from error


def check_type(dtype: np.dtype, key: str, source: str) -> None:
    """Raises UserError unless the type is one of real numbers. Readers call this before they read."""
    if dtype.kind not in "biuf":
        raise UserError(f"{source}: {key} has type {dtype}, not a real number")


def validated(arrays: Mapping[str, np.ndarray], source: str, min_rows: int = 2) -> dict[str, np.ndarray]:
    """Returns the arrays of a file as float32, after checking that they can be trained on.

    Args:
        arrays: by key, at least `observations`; the keys are those of `RANKS`. If a vector [N] is expected, a
            column [N, 1] is accepted, too, as in D4RL.
        source: the file, for messages.
        min_rows: 2 for a whole dataset, less for a part of one.
    Returns:
        f32 arrays, C-contiguous: [N, O], [N, A] and [N], all of the same N >= min_rows.
    Raises:
        UserError: naming the file and the key for a type that is not numeric, a wrong rank, lengths that
            disagree, too few rows, NaN or infinity in float32 (with the first such rows of each key).
    """
    checked = {key: _float32(np.asarray(array), key, source) for key, array in arrays.items()}
    unfit = [text for key, array in checked.items() if (text := _not_finite(array, key))]
    if unfit:
        raise UserError(f"{source}: {'; '.join(unfit)}")
    observations = checked["observations"]
    for key, array in checked.items():
        if len(array) != len(observations):
            raise UserError(
                f"{source}: {key} and observations disagree on the number of rows: "
                f"shapes {array.shape} and {observations.shape}"
            )
        if key == "next_observations" and array.shape != observations.shape:
            raise UserError(f"{source}: {key} has shape {array.shape}, observations {observations.shape}")
    if len(observations) < min_rows:
        needed = f"at least {min_rows} rows are needed"
        raise UserError(f"{source}: observations has shape {observations.shape}: {needed}")
    return checked


def _float32(array: np.ndarray, key: str, source: str) -> np.ndarray:
    check_type(array.dtype, key, source)
    if RANKS[key] == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != RANKS[key] or 0 in array.shape[1:]:
        expected = "(rows,)" if RANKS[key] == 1 else "(rows, entries)"
        raise UserError(f"{source}: {key} has shape {array.shape}, expected {expected}")
    with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 become inf and are refused
        return np.ascontiguousarray(array, dtype=np.float32)


def _not_finite(array: np.ndarray, key: str) -> str | None:
    """Describes where NaN and infinities are; None if there are none."""
    finite = np.isfinite(array)
    if finite.all():
        return None
    rows = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
    first = tuple(np.argwhere(~finite)[0])
    more = f", and further down: {len(rows):,} rows in all, {_listed(rows)}" if len(rows) > 1 else ""
    return f"{key} holds {array[first]} at row {first[0]} (shape {array.shape}){more}"


def _listed(rows: np.ndarray, count: int = 10) -> str:
    return ", ".join(str(row) for row in rows[:count]) + (", ..." if len(rows) > count else "")


def from_transitions(arrays: Mapping[str, np.ndarray], source: str) -> Dataset:
    """Builds a dataset from checked transitions.

    A trajectory ends where it does in IQL (its `dones_float`): at a terminal, where the next observation is
    not the next row's observation (farther than 1e-6), and at the last row; also at time-outs, if given.

    Args:
        arrays: f32[N, O] observations and next_observations, f32[N, A] actions, f32[N] rewards; [N] terminals
            and, optionally, timeouts, as bool or 0/1.
        source: the file, for messages.
    Raises:
        UserError: if N is 0.
    """
    terminals = arrays["terminals"] != 0
    if len(terminals) == 0:
        raise UserError(f"{source}: no transition is left, every row but the last is a time-out")
    observations, next_observations = arrays["observations"], arrays["next_observations"]
    ends = terminals | (arrays["timeouts"] != 0) if "timeouts" in arrays else terminals.copy()
    with np.errstate(over="ignore"):  # a difference that overflows is a jump
        for start in range(0, len(ends) - 1, ROWS_OF_SAMPLE):  # in parts, to take little memory
            part = slice(start, min(start + ROWS_OF_SAMPLE, len(ends) - 1))
            jumps = next_observations[part] - observations[part.start + 1 : part.stop + 1]
            ends[part] |= np.linalg.norm(jumps, axis=1) > JUMP
    ends[-1] = True
    masks = 1.0 - terminals.astype(np.float32)
    # Any: a Batch is typed for arrays on the device, but these are NumPy's.
    fields: tuple[Any, ...] = (observations, arrays["actions"], arrays["rewards"], masks, next_observations)
    return Dataset(Batch(*fields), ends, source)


def joined(datasets: Sequence[Dataset]) -> Dataset:
    """Concatenates the datasets in their order; no trajectory continues from one into the next.

    Raises:
        UserError: if their observations or actions have different sizes, naming two that disagree.
    """
    first = datasets[0]
    if len(datasets) == 1:
        return first
    for other in datasets[1:]:
        for what, ours, theirs in (
            ("observations", first.observation_dim, other.observation_dim),
            ("actions", first.action_dim, other.action_dim),
        ):
            if ours != theirs:
                raise UserError(
                    f"datasets do not fit together: {what} have {ours} entries in {first.source} "
                    f"and {theirs} in {other.source}"
                )
    # No ends need to be added: each dataset's last transition is marked as one.
    batch = jax.tree.map(lambda *fields: np.concatenate(fields), *(dataset.batch for dataset in datasets))
    ends = np.concatenate([dataset.ends for dataset in datasets])
    source = ", ".join(dataset.source for dataset in datasets)
    return Dataset(batch, ends, source, _references_of_all(datasets))


def _references_of_all(datasets: Sequence[Dataset]) -> References | None:
    """Returns the references that the datasets agree on; None, with a warning, if they differ."""
    given = {dataset.references for dataset in datasets} - {None}
    if len(given) > 1:
        told = "; ".join(f"{dataset.source}: {dataset.references}" for dataset in datasets)
        LOG.warning(f"the data bring different reference returns, so none of them counts ({told})")
    return given.pop() if len(given) == 1 else None


def checked_references(random_return: float, expert_return: float, source: str) -> References:
    """Returns references given by `source`, a file or flags; UserError if they are not valid."""
    if not math.isfinite(random_return) or not math.isfinite(expert_return):
        raise UserError(f"{source}: reference returns {random_return} and {expert_return} must be finite")
    if random_return >= expert_return:
        raise UserError(
            f"{source}: the expert's return, {expert_return:g}, must be above the random policy's, "
            f"{random_return:g}"
        )
    return References(random_return, expert_return)


def name_of(source: str | Dataset) -> str:
    """Returns what a source of data is called in messages and in a run's config.json."""
    return source if isinstance(source, str) else source.source
