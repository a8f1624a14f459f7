"""D4RL's HDF5 files: one row per step, turned into transitions as D4RL's `qlearning_dataset` does."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from xql_jax.data.dataset import (
    Dataset,
    brief,
    check_type,
    checked_references,
    from_transitions,
    reading,
    validated,
)
from xql_jax.data.memory import check_memory
from xql_jax.errors import UserError
from xql_jax.tasks import References

LOG = logging.getLogger(__name__)
REQUIRED = ("observations", "actions", "rewards", "terminals")


def read_hdf5(path: Path, episode_limit: int | None) -> Dataset:
    """Reads a file in D4RL's layout.

    Args:
        path: the HDF5 file. If it has `next_observations`, they are ignored, as D4RL ignores them.
        episode_limit: steps, for a file without `timeouts`; None if no limit is known.
    Raises:
        UserError: if the file is absent or damaged, or lacks a key, or an array is unfit (see `validated`).
    """
    with opened(path) as file:
        references = _references(file, path)
        arrays = validated(_arrays(file, path), str(path))
    return dataclasses.replace(from_rows(arrays, episode_limit, str(path)), references=references)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Opens an HDF5 file for reading; until it is closed, errors of h5py are raised as UserError."""
    with reading(path, "HDF5 file"), h5py.File(path, "r") as file:
        yield file


def find(file: h5py.File, name: str) -> h5py.Dataset | h5py.Group | None:
    """Returns what the file itself has under a name, or None.

    Raises:
        UserError: if it is behind a link, or its numbers are in other files. They can change while the file
            does not, may be anything on this machine, and read as zeros if they are missing.
    """
    here: h5py.Dataset | h5py.Group = file
    for part in name.split("/"):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"{file.filename}: {name} is a link: copy what it leads to into the file")
        here = here[part]
    if isinstance(here, h5py.Dataset) and (here.is_virtual or here.external):
        raise UserError(f"{file.filename}: the numbers of {name} are in other files: copy them into this one")
    return here


def _arrays(file: h5py.File, path: Path) -> dict[str, np.ndarray]:
    found = {key: find(file, key) for key in (*REQUIRED, "timeouts")}
    arrays = {key: member for key, member in found.items() if isinstance(member, h5py.Dataset)}
    if missing := [key for key in REQUIRED if key not in arrays]:
        names = brief(", ".join(file) or "nothing")
        raise UserError(f"{path}: no array {', '.join(missing)}; the file holds {names}")
    for key, member in arrays.items():
        check_type(member.dtype, key, str(path))
    check_memory(sum(member.nbytes for member in arrays.values()), str(path))
    return {key: member[()] for key, member in arrays.items()}


def _references(file: h5py.File, path: Path) -> References | None:
    """Returns the reference returns in the file's metadata, None if there are none.

    Raises:
        UserError: if only one of the two is there, or they are not numbers or not valid references.
    """
    found = {}
    for name in References._fields:
        member = find(file, f"metadata/{name}")
        if isinstance(member, h5py.Dataset):
            if member.shape != () or member.dtype.kind not in "iuf":
                raise UserError(f"{path}: metadata/{name} is not one real number")
            found[name] = float(member[()])
    if not found:
        return None
    missing = [name for name in References._fields if name not in found]
    if missing:
        raise UserError(f"{path}: metadata/{next(iter(found))} without metadata/{missing[0]}")
    return checked_references(**found, source=str(path))


def from_rows(
    arrays: Mapping[str, np.ndarray], episode_limit: int | None, source: str, keeps_last: bool = False
) -> Dataset:
    """Builds a dataset from checked rows in D4RL's layout; see `qlearning_dataset`.

    Warns if all rewards that are not 0 are in rows that are left out.

    Raises:
        UserError: if there are neither `timeouts` nor a limit, or if no transition is left.
    """
    if "timeouts" not in arrays and episode_limit is None:
        raise UserError(
            f"{source}: no timeouts, and no task whose episode limit could stand in for them: give "
            "--env_name, or add an array timeouts, 1 at the last step of each episode that was cut off and 0 "
            "elsewhere"
        )
    dataset = from_transitions(qlearning_dataset(arrays, episode_limit, keeps_last), source)
    given, kept = (int(np.count_nonzero(x)) for x in (arrays["rewards"], np.asarray(dataset.batch.rewards)))
    if given and not kept:
        LOG.warning(
            f"{source}: every reward that is not 0 ({given:,} rows) is in a row that is left out: D4RL's "
            "layout leaves out time-outs and, in HDF5, the last row. Save transitions as .npz, with "
            "next_observations: then every row is kept"
        )
    return dataset


def qlearning_dataset(
    arrays: Mapping[str, np.ndarray], episode_limit: int | None, keeps_last: bool = False
) -> dict[str, np.ndarray]:
    """Turns rows into transitions, as D4RL's `qlearning_dataset` with `terminate_on_end=False` does.

    Row i becomes (o_i, a_i, r_i, terminal_i, o_{i+1}). A row with a time-out is dropped, because the next row
    belongs to another episode. So is the last row. A terminal row stays: its mask hides the next observation.

    Source: `d4rl.qlearning_dataset`, D4RL 1.1, here without its loop over rows.
    Args:
        arrays: [N, O] observations, [N, A] actions, [N] rewards, terminals and, optionally, timeouts.
        episode_limit: steps; used only if there are no timeouts, to find them by counting.
        keeps_last: keep the last row, too, if it is terminal; D4RL drops it. Its next observation is unknown,
            but the mask hides it, so its own observation is used.
    Returns:
        the M <= N rows kept: observations, actions, next_observations, rewards; and terminals as bool.
    """
    terminals = arrays["terminals"] != 0
    if "timeouts" in arrays:
        left_out = arrays["timeouts"] != 0
    else:
        assert episode_limit is not None
        left_out = counted_timeouts(terminals, episode_limit)
    left_out[-1] |= not (keeps_last and terminals[-1])
    kept = np.flatnonzero(~left_out)
    return {
        "observations": arrays["observations"][kept],
        "actions": arrays["actions"][kept],
        "next_observations": arrays["observations"][np.minimum(kept + 1, len(terminals) - 1)],
        "rewards": arrays["rewards"][kept],
        "terminals": terminals[kept],
    }


def counted_timeouts(terminals: np.ndarray, episode_limit: int) -> np.ndarray:
    """Returns bool[N]: the rows at which D4RL's step counter stands at the limit.

    The counter restarts from 0 after a time-out but from 1 after a terminal, because D4RL resets it before it
    counts the terminal row. An episode after a terminal therefore counts as one step longer than it is.
    """
    starts = np.append(0, np.flatnonzero(terminals[:-1]) + 1)
    counter = np.empty(len(terminals), np.int64)
    first = 0
    for start, stop in zip(starts, np.append(starts[1:], len(terminals)), strict=True):
        counter[start:stop] = np.arange(first, first + stop - start) % episode_limit
        first = 0 if counter[stop - 1] == episode_limit - 1 else 1
    return counter == episode_limit - 1
