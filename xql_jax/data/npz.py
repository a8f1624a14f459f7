"""Reads NumPy archives of transitions, or of rows in D4RL's or OGBench's layout."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from xql_jax.data.d4rl_hdf5 import from_rows
from xql_jax.data.dataset import RANKS, Dataset, brief, check_type, from_transitions, reading, validated
from xql_jax.data.memory import check_memory
from xql_jax.errors import UserError

# The names that other libraries give to the arrays.
SYNONYMS = {
    "observations": ("obs", "observation", "states"),
    "actions": ("acts", "action"),
    "rewards": ("rews", "reward"),
    "next_observations": ("next_obs", "next_observation", "next_states"),
    "terminals": ("terminated", "terminations", "terminal"),
    "timeouts": ("truncated", "truncations", "timeout"),
}
OGBENCH_KEYS = ("observations", "actions", "next_observations", "terminals", "rewards", "masks")


def read_npz(path: Path, episode_limit: int | None) -> Dataset:
    """Reads a `.npz` of observations, actions, rewards and either terminals or masks = 1 - terminals.

    With `next_observations` every row is a transition. Without, rows are steps in D4RL's layout and are
    converted by `qlearning_dataset`, except that the last row stays if it is terminal. Ends of trajectories
    may be marked by `timeouts` (all ends but terminals) or `ends` (all).

    Args:
        path: the archive; pickled objects in it are refused, not run.
        episode_limit: steps, for rows in D4RL's layout without timeouts; None if no limit is known.
    Raises:
        UserError: if the file is absent or damaged, or lacks a key, or an array is unfit (see `validated`).
    """
    names = archive_keys(path)
    _check_names(names, str(path))
    if "qpos" in names and not {"next_observations", "timeouts", "ends"}.intersection(names):
        raise UserError(
            f"{path}: rows without timeouts beside qpos: if they are OGBench's, whose terminals mark "
            f"time-outs, give ogbench:{path}; if not, add timeouts"
        )
    return _dataset(read_archive(path, RANKS), episode_limit, str(path))


def from_arrays(arrays: Mapping[str, np.ndarray], episode_limit: int | None, source: str) -> Dataset:
    """Builds a dataset from arrays that have the keys of a `.npz`, see `read_npz`; other arrays are ignored.

    Args:
        arrays: by key.
        episode_limit: as for `read_npz`.
        source: where they come from, for messages.
    Raises:
        UserError: as `read_npz`.
    """
    _check_names(arrays, source)
    return _dataset({key: arrays[key] for key in RANKS if key in arrays}, episode_limit, source)


def read_ogbench(path: Path) -> Dataset:
    """Reads a `.npz` in OGBench's layout: `terminals` mark the last row of each trajectory, a time-out.

    Terminal states, if there are any, are those with masks = 0: in OGBench's single-task data, where the goal
    is reached. Without `next_observations`, rows are steps as in OGBench's files, and the last of each
    trajectory has no next observation. With it, rows are transitions, as in what its `make_env_and_datasets`
    returns.

    Raises:
        UserError: as `read_npz`; also if there are no rewards, which OGBench's own files do not have.
    """
    arrays = read_archive(path, OGBENCH_KEYS)
    if "rewards" not in arrays:
        raise UserError(
            f"{path}: no array rewards; OGBench's own files have none, its single-task environments add "
            "them: save what ogbench.make_env_and_datasets('...-singletask-v0') returns with np.savez"
        )
    check_complete(path, arrays, ("observations", "actions", "terminals"))
    arrays = validated(arrays, str(path))
    arrays["timeouts"] = arrays.pop("terminals") != 0
    has_masks = "masks" in arrays
    arrays["terminals"] = _terminals(arrays, str(path)) if has_masks else np.zeros_like(arrays["timeouts"])
    if "next_observations" in arrays:
        return from_transitions(arrays, str(path))
    return from_rows(arrays, None, str(path))


def archive_keys(path: Path) -> list[str]:
    with _opened(path) as archive:
        return list(archive.files)


def read_archive(path: Path, keys: Collection[str]) -> dict[str, np.ndarray]:
    """Returns the arrays in the archive that are among `keys`; only their types are checked.

    Raises:
        UserError: if the file is absent, damaged, or not an archive, or larger than the free memory.
    """
    check_memory(archive_bytes(path, keys), str(path))
    with _opened(path) as archive:
        arrays = {key: np.asarray(archive[key]) for key in keys if key in archive.files}
    for key, array in arrays.items():
        check_type(array.dtype, key, str(path))
    return arrays


def archive_bytes(path: Path, keys: Collection[str]) -> int:
    """Returns the size of the arrays in the archive that are among `keys`, unpacked; reads none of them."""
    with _opened(path) as archive:
        members = archive.zip.infolist() if archive.zip else []
        return sum(member.file_size for member in members if member.filename.removesuffix(".npy") in keys)


def check_complete(path: Path, arrays: Mapping[str, np.ndarray], keys: Collection[str]) -> None:
    """Raises UserError if any key is missing."""
    if missing := [key for key in keys if key not in arrays]:
        found = brief(", ".join(archive_keys(path)) or "nothing")
        raise UserError(f"{path}: no array {', '.join(missing)}; the file holds {found}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    with reading(path, ".npz archive"):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f"{path}: a single NumPy array, not an archive of named arrays")
        with archive:
            yield archive


def _check_names(found: Collection[str], source: str) -> None:
    """Raises UserError if an array is missing, or there is one only under another library's name."""
    given = {
        *found,
        *(("timeouts",) if "ends" in found else ()),
        *(("terminals",) if "masks" in found else ()),
    }
    missing = [key for key in ("observations", "actions", "rewards", "terminals") if key not in given]
    renamed = {
        key: name for key, names in SYNONYMS.items() if key not in given for name in names if name in found
    }
    if not missing and not renamed:
        return
    advice = [f"rename {name} to {key}" for key, name in renamed.items()]
    if "dones" in found and "terminals" in {*missing} - {*renamed}:
        advice.append(
            "rename dones to terminals if it marks final states, else to timeouts beside terminals of 0"
        )
    wanted = ["terminals (or masks)" if key == "terminals" else key for key in missing or renamed]
    held = brief(", ".join(map(str, found)) or "nothing")
    raise UserError(f"{source}: no array {', '.join(wanted)}; there is {held}{'; '.join(['', *advice])}")


def _dataset(arrays: Mapping[str, np.ndarray], episode_limit: int | None, source: str) -> Dataset:
    """Validates the arrays of `read_npz`, gives them terminals and timeouts, and builds the dataset."""
    checked = validated(arrays, source)
    checked["terminals"] = _terminals(checked, source)
    if "ends" in checked and "timeouts" not in checked:
        checked["timeouts"] = (checked["ends"] != 0) & ~checked["terminals"]
    if "next_observations" in checked:
        return from_transitions(checked, source)
    return from_rows(checked, episode_limit, source, keeps_last=True)


def _terminals(arrays: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    """Returns bool[N]; UserError if masks are not 0 or 1, or contradict terminals."""
    if "masks" not in arrays:
        return arrays["terminals"] != 0
    masks = arrays["masks"]
    terminals = arrays["terminals"] != 0 if "terminals" in arrays else masks == 0
    if (masks != ~terminals).any():
        row = np.flatnonzero(masks != ~terminals)[0]
        equal = (
            " and equal 1 - terminals (where terminals mark time-outs, as OGBench's do, give ogbench:FILE)"
        )
        raise UserError(
            f"{source}: masks holds {masks[row]} at row {row}, must be 0 or 1"
            + (equal if "terminals" in arrays else "")
        )
    return terminals
