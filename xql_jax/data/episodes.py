"""Data stored episode by episode: reads folders of `.npz` files; holds what other such readers share."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tqdm

from xql_jax.data.dataset import Dataset, from_transitions, validated
from xql_jax.data.footprint import COPIES, Footprint, of_columns
from xql_jax.data.npz import archive_columns, check_complete, read_archive
from xql_jax.errors import UserError

KEYS = ("observations", "actions", "rewards")
TERMINAL_KEYS = ("terminals", "terminations", "terminated")  # an episode's file may hold one of them


def read_npz_folder(folder: Path) -> Dataset:
    """Reads every `.npz` in the folder, sorted by name, as an episode.

    Each file holds observations [T + 1, O] or [T, O], actions [T, A], rewards [T] and, if the episode ends in
    a terminal state, `terminals` (or `terminations`, `terminated`): [T], or one value for the last step.

    Raises:
        UserError: if there is no file; or, naming the file, if one cannot be used.
    """
    files = tqdm.tqdm(_files(folder), desc=f"reading {folder.name}", unit="episode", disable=None)
    return from_episodes((_read_episode(path) for path in files), str(folder))


def footprint_of_folder(folder: Path) -> Footprint:
    """Returns the memory that reading the folder takes, from its files' headers; UserError as in reading."""
    each = [of_columns(archive_columns(path, (*KEYS, *TERMINAL_KEYS))) for path in _files(folder)]
    return footprint_of_episodes(each)


def footprint_of_episodes(each: Sequence[Footprint]) -> Footprint:
    """Returns the footprint of data whose episodes are read one by one and then put together."""
    held = sum(footprint.held for footprint in each)
    return Footprint(held, COPIES * held + max((footprint.reading for footprint in each), default=0))


def _files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".npz" and path.is_file())
    if not paths:
        raise UserError(f"{folder}: no .npz file, an episode each, in this directory")
    return paths


def _read_episode(path: Path) -> dict[str, np.ndarray]:
    arrays = read_archive(path, (*KEYS, *TERMINAL_KEYS))
    check_complete(path, [key for key in KEYS if key not in arrays])
    given = [arrays.pop(key) for key in TERMINAL_KEYS if key in arrays]
    if len(given) > 1:
        raise UserError(f"{path}: terminal states are given more than once: by {' and '.join(TERMINAL_KEYS)}")
    terminals = given[0] if given else np.zeros(())
    if terminals.size == 1 and arrays["rewards"].ndim:  # one value, for the last step
        steps = len(arrays["rewards"])
        terminals = np.where(np.arange(steps) == steps - 1, terminals.reshape(()), 0)
    return episode({**arrays, "terminals": terminals}, str(path))


def episode(arrays: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Returns an episode's transitions, checked; `timeouts` marks the last one unless it is terminal.

    Args:
        arrays: [T + 1, O] observations, [T, A] actions, [T] rewards and terminals. With [T, O] observations
            the last step has no next observation. It is kept if it is terminal, because its mask hides that.
        source: the episode, for messages.
    Raises:
        UserError: if an array is unfit (see `validated`).
    """
    observations = np.asarray(arrays["observations"])
    steps = {key: np.asarray(arrays[key]) for key in ("actions", "rewards", "terminals")}
    length = len(steps["actions"]) if steps["actions"].ndim else 0
    if observations.ndim and len(observations) == length + 1:
        following = observations[1:]
        steps["observations"] = observations[:-1]
        count = length
    else:  # any other length is refused by `validated`
        following = (
            np.concatenate([observations[1:], observations[-1:]]) if observations.ndim else observations
        )
        steps["observations"] = observations
        count = None
    checked = validated({**steps, "next_observations": following}, source, min_rows=1)
    if count is None:
        count = length if checked["terminals"][-1] != 0 else length - 1
    transitions = {key: array[:count] for key, array in checked.items()}
    ends = np.arange(count) == count - 1
    return {**transitions, "timeouts": ends & (transitions["terminals"] == 0)}


def from_episodes(episodes: Iterable[Mapping[str, np.ndarray]], source: str) -> Dataset:
    """Joins what `episode` returns for each, in their order.

    Raises:
        UserError: if the sizes of observations or actions differ among them, or no transition is left.
    """
    listed = list(episodes)
    for key in ("observations", "actions"):
        sizes = [item[key].shape[1] for item in listed]
        if len(set(sizes)) > 1:
            other = next(number for number, size in enumerate(sizes) if size != sizes[0])
            raise UserError(
                f"{source}: episodes do not fit together: {key} have {sizes[0]} entries in the first "
                f"and {sizes[other]} in number {other + 1}"
            )
    if not listed:
        raise UserError(f"{source}: no episode in it")
    arrays = {key: np.concatenate([item[key] for item in listed]) for key in listed[0]}
    return from_transitions(arrays, source)
