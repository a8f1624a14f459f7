"""D4RL's HDF5 files: one row a step, turned into transitions as D4RL's `qlearning_dataset` does."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from xql_jax.data.dataset import Dataset, check_file, check_type, from_transitions, validated
from xql_jax.errors import UserError

REQUIRED = ("observations", "actions", "rewards", "terminals")
H5PY_ERRORS = (OSError, LookupError, RuntimeError, ValueError, TypeError)  # its ways to say "damaged"
EXPANSION = 1100  # deflate makes of a byte at most 1,032


def read_hdf5(path: Path, episode_limit: int | None) -> Dataset:
    """Reads a file in D4RL's layout.

    Args:
        path: the HDF5 file. D4RL never reads a `next_observations` that may be in it, nor does this.
        episode_limit: steps, for a file without `timeouts`; None where no limit is known.
    Raises:
        UserError: if the file is absent or damaged, or lacks a key, or an array is unfit (see `validated`).
    """
    check_file(path)
    return from_rows(validated(_read_arrays(path), str(path)), episode_limit, str(path))


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with h5py.File(path, "r") as file:
            # Members are opened one by one: in a damaged file, to look at them is already to fail.
            found = {key: file[key] for key in (*REQUIRED, "timeouts") if key in file}
            missing = [key for key in REQUIRED if not isinstance(found.get(key), h5py.Dataset)]
            if missing:
                raise UserError(
                    f"{path}: no array {', '.join(missing)}; the file holds {', '.join(file) or 'nothing'}"
                )
            arrays = {key: member for key, member in found.items() if isinstance(member, h5py.Dataset)}
            for key, member in arrays.items():
                check_type(member.dtype, key, str(path))
                _check_size(member, key, path)
            return {key: member[()] for key, member in arrays.items()}
    except H5PY_ERRORS as error:
        raise UserError(f"{path}: not a readable HDF5 file ({error})") from error
    except MemoryError as error:
        raise UserError(f"{path}: its arrays do not fit into memory ({error})") from error


def _check_size(member: h5py.Dataset, key: str, path: Path) -> None:
    """A damaged file may claim any shape, and memory for it would be asked for before a byte is read."""
    if member.shape is None:
        raise UserError(f"{path}: {key} is empty: it has no shape")
    if member.nbytes > EXPANSION * path.stat().st_size:
        raise UserError(
            f"{path}: not a readable HDF5 file ({key} claims the shape {member.shape}, "
            f"{member.nbytes:,} bytes, in a file of {path.stat().st_size:,})"
        )


def from_rows(arrays: Mapping[str, np.ndarray], episode_limit: int | None, source: str) -> Dataset:
    """Builds a dataset from checked rows in D4RL's layout; see `qlearning_dataset`.

    Raises:
        UserError: if there are neither `timeouts` nor a limit, or nothing but time-outs.
    """
    if "timeouts" not in arrays and episode_limit is None:
        raise UserError(f"{source}: no timeouts, and no task whose episode limit could stand in for them")
    return from_transitions(qlearning_dataset(arrays, episode_limit), source)


def qlearning_dataset(arrays: Mapping[str, np.ndarray], episode_limit: int | None) -> dict[str, np.ndarray]:
    """D4RL's function of that name with `terminate_on_end=False`, without its loop over rows.

    Row i becomes (o_i, a_i, r_i, terminal_i, o_{i+1}). A row with a time-out is dropped, as the next row is
    another episode's; so is the last row. A terminal row stays: its mask hides the next observation.

    Source: `d4rl.qlearning_dataset`, D4RL 1.1.
    Args:
        arrays: [N, O] observations, [N, A] actions, [N] rewards, terminals and, optionally, timeouts.
        episode_limit: steps; used only where there are no timeouts, to count them out.
    Returns:
        the M < N rows kept: observations, actions, next_observations, rewards; and terminals as bool.
    """
    terminals = arrays["terminals"] != 0
    if "timeouts" in arrays:
        timeouts = arrays["timeouts"] != 0
    else:
        assert episode_limit is not None
        timeouts = counted_timeouts(terminals, episode_limit)
    kept = np.flatnonzero(~timeouts[:-1])
    return {
        "observations": arrays["observations"][kept],
        "actions": arrays["actions"][kept],
        "next_observations": arrays["observations"][kept + 1],
        "rewards": arrays["rewards"][kept],
        "terminals": terminals[kept],
    }


def counted_timeouts(terminals: np.ndarray, episode_limit: int) -> np.ndarray:
    """Returns bool[N]: the rows at which D4RL's step counter stands at the limit.

    The counter goes on from 0 after a time-out but from 1 after a terminal, because D4RL resets it before it
    counts the terminal row: an episode after a terminal is thought one step longer than it is.
    """
    starts = np.append(0, np.flatnonzero(terminals[:-1]) + 1)
    counter = np.empty(len(terminals), np.int64)
    first = 0
    for start, stop in zip(starts, np.append(starts[1:], len(terminals)), strict=True):
        counter[start:stop] = np.arange(first, first + stop - start) % episode_limit
        first = 0 if counter[stop - 1] == episode_limit - 1 else 1
    return counter == episode_limit - 1
