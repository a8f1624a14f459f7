"""Rows in D4RL's layout, as this project makes them: whole episodes one after another; and their files."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from xql_jax.data.dataset import summed
from xql_jax.data.readers import dataset_names, reading
from xql_jax.types import Batch, EpisodeBatch, Json

# By key, [N, ...]: observations, actions, rewards and next_observations in float32; terminals and timeouts as
# bool, one of which is set in the last row of each episode; optionally infos/NAME.
Rows = dict[str, np.ndarray]


def cut_off(rows: Rows, count: int) -> Rows:
    """Returns the first `count` rows; an episode that is cut in two ends there by a time-out."""
    kept = {key: array[:count].copy() for key, array in rows.items()}
    kept["timeouts"][-1] |= not kept["terminals"][-1]
    return kept


def joined_rows(parts: Sequence[Rows]) -> Rows:
    """Concatenates the rows of several parts in their order; keys that not all of them have are left out."""
    common = [key for key in parts[0] if all(key in part for part in parts)]
    return {key: np.concatenate([part[key] for part in parts]) for key in common}


def ends_of(rows: Rows) -> np.ndarray:
    """Returns bool[N], true in each episode's last row."""
    return rows["terminals"] | rows["timeouts"]


def returns_of(rows: Rows) -> np.ndarray:
    """Returns f64[E], the undiscounted return of each episode."""
    return summed(rows["rewards"], ends_of(rows))


def whole_returns_of(
    rows: Rows, episode_limit: int, cuts: Sequence[int] = (-1,), headless: Sequence[int] = ()
) -> np.ndarray:
    """Returns f64[E], the returns of the episodes that were not cut off; of all, if all were.

    Those that end in the rows `cuts` may have been cut off, unless they have `episode_limit` steps or end in
    a terminal state. Those that begin in the rows `headless` may lack their first steps.
    """
    ends = np.flatnonzero(ends_of(rows))
    whole = rows["terminals"][ends] | (np.diff(ends, prepend=-1) >= episode_limit)
    whole |= ~np.isin(ends, np.arange(len(rows["rewards"]))[list(cuts)])
    whole[np.searchsorted(ends, np.array(headless, int))] = False
    returns = returns_of(rows)
    return returns[whole] if whole.any() else returns


def rows_of_replay(first: int, transitions: Batch | EpisodeBatch, num_environments: int) -> Rows:
    """Turns a replay buffer's transitions, which N environments inserted in turn, into whole episodes.

    A buffer records terminals, and an `EpisodeBatch` the ends that it knows. An episode may also end by its
    limit or by a resumption of the run. There a transition's next observation differs, in any bit, from the
    observation of its environment's next transition.

    The transitions are NumPy f32[n, ...], oldest first, and transition k, counted from `first` on, is of
    environment k % N. The rows of the environments come one environment after the other.
    """
    environments = (first + np.arange(len(transitions.rewards))) % num_environments
    order = np.argsort(environments, kind="stable")
    observations, actions, rewards, masks, following, *ends = (np.asarray(x)[order] for x in transitions)
    terminals = masks == 0
    goes_on = np.zeros(len(order), bool)
    goes_on[:-1] = (following[:-1] == observations[1:]).all(axis=1) & (np.diff(environments[order]) == 0)
    for known in ends:
        goes_on &= known == 0
    return {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "terminals": terminals,
        "timeouts": ~goes_on & ~terminals,
        "next_observations": following,
    }


def write_hdf5(path: Path, rows: Rows, metadata: Json) -> None:
    """Writes rows in D4RL's layout, always to the same bytes; `metadata/` has text, numbers and lists."""
    with h5py.File(path, "w") as file:
        for key, array in rows.items():
            # Times would change the bytes; checksums show when a file was damaged.
            file.create_dataset(key, data=array, track_times=False, fletcher32=True)
        for key, value in metadata.items():
            is_text = isinstance(value, list) and value and isinstance(value[0], str)
            kind = h5py.string_dtype() if is_text else None
            file.create_dataset(f"metadata/{key}", data=value, dtype=kind, track_times=False)


def read_rows(path: Path) -> tuple[Rows, Json]:
    """Returns what `write_hdf5` wrote; UserError if the file cannot be read."""
    rows: Rows = {}
    metadata: Json = {}
    with reading(path, "HDF5 file"), h5py.File(path, "r") as file:
        for name in dataset_names(file):
            is_text = h5py.check_string_dtype(file[name].dtype)
            array = np.asarray((file[name].asstr() if is_text else file[name])[()])
            if name.startswith("metadata/"):
                metadata[name.removeprefix("metadata/")] = array.tolist()
            else:
                rows[name] = array
    return rows, metadata
