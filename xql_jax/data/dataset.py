"""A dataset in memory, and the one place where arrays that came from a file are checked."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.errors import UserError
from xql_jax.types import Batch

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

    batch: Batch  # NumPy float32, C-contiguous; the leading axis is all transitions
    ends: np.ndarray  # bool[N], each trajectory's last transition: a terminal, a time-out, a jump in the data
    source: str  # the file, for messages

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


def check_file(path: Path) -> None:
    """Raises UserError unless `path` is a file with something in it."""
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: not a file" + (" but a directory" if path.is_dir() else ""))
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes)")


def validated(arrays: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a file as float32, once they are known to be fit for training.

    Args:
        arrays: by key, at least `observations`; the keys are those of `RANKS`. A column [N, 1] is taken for
            the vector [N] where a vector is due, as D4RL does.
        source: the file, for messages.
    Returns:
        f32 arrays, C-contiguous: [N, O], [N, A] and [N], all of the same N >= 2.
    Raises:
        UserError: naming the file and the key for a type that is not numeric, a wrong rank, lengths that
            disagree, fewer than two rows, NaN or infinity in float32 (with the first such row).
    """
    checked = {key: _float32(np.asarray(array), key, source) for key, array in arrays.items()}
    observations = checked["observations"]
    for key, array in checked.items():
        if len(array) != len(observations):
            raise UserError(
                f"{source}: {key} and observations disagree on the number of rows: "
                f"shapes {array.shape} and {observations.shape}"
            )
        if key == "next_observations" and array.shape != observations.shape:
            raise UserError(f"{source}: {key} has shape {array.shape}, observations {observations.shape}")
    if len(observations) < 2:
        raise UserError(f"{source}: observations has shape {observations.shape}: at least 2 rows are needed")
    return checked


def _float32(array: np.ndarray, key: str, source: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise UserError(f"{source}: {key} has type {array.dtype}, not a real number")
    if RANKS[key] == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != RANKS[key] or 0 in array.shape[1:]:
        expected = "(rows,)" if RANKS[key] == 1 else "(rows, entries)"
        raise UserError(f"{source}: {key} has shape {array.shape}, expected {expected}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf and is refused below
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        first = tuple(np.argwhere(~np.isfinite(array))[0])
        raise UserError(f"{source}: {key} holds {array[first]} at row {first[0]} (shape {array.shape})")
    return array


def from_transitions(arrays: Mapping[str, np.ndarray], source: str) -> Dataset:
    """Builds a dataset from checked transitions.

    A trajectory ends where IQL says so (its `dones_float`): at a terminal, where the next observation is not
    the next row's observation (farther than 1e-6), and at the last row; also at time-outs, if they are given.

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
    ends[:-1] |= np.linalg.norm(next_observations[:-1] - observations[1:], axis=1) > 1e-6
    ends[-1] = True
    masks = 1.0 - terminals.astype(np.float32)
    # Any: a Batch is typed for arrays on the device, and here they are the host's.
    fields: tuple[Any, ...] = (observations, arrays["actions"], arrays["rewards"], masks, next_observations)
    return Dataset(Batch(*fields), ends, source)
