"""Reads files (D4RL's HDF5, NumPy archives, OGBench's): the one place where their arrays are checked."""

import contextlib
import dataclasses
import logging
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

from xql_jax.data.dataset import Dataset, checked_references, from_transitions, qlearning_dataset
from xql_jax.errors import UserError
from xql_jax.tasks import References, Task

LOG = logging.getLogger(__name__)

COPIES = 3  # of a file's arrays in memory: as they are read, as transitions, and as these are preprocessed
LONGEST_QUOTE = 300  # characters
REQUIRED = ("observations", "actions", "rewards", "terminals")
# What the keys of a file must look like: the number of axes, rows first.
RANKS = dict.fromkeys(("observations", "actions", "next_observations"), 2)
RANKS |= dict.fromkeys(("rewards", "terminals", "masks", "timeouts", "ends"), 1)
MADE_BY = "made_by"  # the command that made a file of xql-collect --oracle
STATES = ("qpos", "button_states")  # of OGBench's simulators
UNITS = "action_units"  # beside the arrays: whether actions are in the environment's units or within ±1
NORMALIZED, ENVIRONMENT = "normalized", "environment"
# The names that other libraries give to the arrays.
SYNONYMS = {
    "observations": ("obs", "observation", "states"),
    "actions": ("acts", "action"),
    "rewards": ("rews", "reward"),
    "next_observations": ("next_obs", "next_observation", "next_states"),
    "terminals": ("terminated", "terminations", "terminal"),
    "timeouts": ("truncated", "truncations", "timeout"),
}
DONES = "rename dones to terminals if it marks final states, else to timeouts beside terminals of 0"


def read_hdf5(path: Path, episode_limit: int | None) -> Dataset:
    """Reads a file in D4RL's layout; `next_observations` are ignored, as D4RL ignores them.

    The episode limit, in steps, is for a file without `timeouts`. Raises UserError if the file is absent or
    damaged, or lacks a key, or an array is unfit (see `validated`).
    """
    with opened(path) as file:
        check_names(list(file), REQUIRED, str(path))
        found = {key: file[key] for key in (*REQUIRED, "timeouts") if key in file}
        check_memory(sum(array.nbytes for array in found.values()), str(path))
        arrays = {key: array[()] for key, array in found.items()}
        names = [f"metadata/{name}" for name in (*References._fields, UNITS)]
        *given, units = (np.asarray(file[name][()]).tolist() if name in file else None for name in names)
        normalized = says_normalized(units, str(path), is_collected="metadata/command" in file)
    return dataclasses.replace(
        _of_arrays(validated(arrays, str(path)), episode_limit, str(path), keeps_last=False),
        references=checked_references(given, str(path)),
        is_normalized=normalized,
    )


def read_npz(path: Path, episode_limit: int | None) -> Dataset:
    """Reads a `.npz` of observations, actions, rewards and either terminals or masks = 1 - terminals.

    With `next_observations` every row is a transition. Without, rows are steps in D4RL's layout and are
    converted by `qlearning_dataset`, except that the last row stays if it is terminal. Ends of trajectories
    may be marked by `timeouts` (all ends but terminals) or `ends` (all).

    Takes and raises what `read_hdf5` does. Pickled objects are refused, not run.
    """
    arrays, names = read_archive(path, (*RANKS, UNITS))
    if "qpos" in names and not {"next_observations", "timeouts", "ends"}.intersection(names):
        raise UserError(
            f"{path}: rows without timeouts beside qpos: if they are OGBench's, whose terminals mark "
            f"time-outs, give ogbench:{path}; if not, add timeouts"
        )
    return from_arrays(arrays, episode_limit, str(path), names)


def from_arrays(
    arrays: Mapping[str, np.ndarray], episode_limit: int | None, source: str, names: Sequence[str] = ()
) -> Dataset:
    """Builds a dataset from arrays with the keys of a `.npz`, see `read_npz`.

    `names` are those of all arrays, if some were not read.
    """
    names = names or list(arrays)
    stand_ins = {"terminals": "masks", "timeouts": "ends"}
    required, optional = (
        [key for key in keys if stand_ins.get(key) not in names]
        for keys in (REQUIRED, ("next_observations", "timeouts"))
    )
    check_names(names, required, source, optional)
    checked = validated({key: array for key, array in arrays.items() if key in RANKS}, source)
    dataset = _of_arrays(checked, episode_limit, source, keeps_last=True)
    return dataclasses.replace(dataset, is_normalized=says_normalized(arrays.get(UNITS), source))


def read_ogbench(path: Path, task: Task | None = None) -> Dataset:
    """Reads a `.npz` in OGBench's layout: `terminals` mark the last row of each trajectory, a time-out.

    Terminal states, if there are any, are those with masks = 0: in OGBench's single-task data, where the goal
    is reached. Without `next_observations`, rows are steps as in OGBench's files, and the last of each
    trajectory has no next observation. With it, rows are transitions, as in what its `make_env_and_datasets`
    returns.

    OGBench's own files have no rewards: a single-task task gives them, from the states in `qpos`.
    """
    arrays, names = read_archive(path, (*REQUIRED, "next_observations", "masks", MADE_BY, *STATES))
    made_by = arrays.pop(MADE_BY, None)
    source = str(path) if made_by is None else f"{path} (made by {made_by})"
    if "rewards" not in arrays and "qpos" in arrays and task and task.suite == "ogbench":
        from xql_jax.envs.ogbench import rewarded  # which imports a simulator

        arrays = rewarded(task, arrays)
        names = [*names, "rewards", "masks"]
    if "rewards" not in arrays:
        raise UserError(
            f"{path}: no array rewards; OGBench's own files have none: give the task whose rewards are "
            "meant, as --env_name=cube-single-play-singletask-v0"
        )
    arrays = {name: array for name, array in arrays.items() if name not in STATES}
    check_names(names, REQUIRED, str(path))
    checked = validated(arrays, str(path))
    timeouts = checked.pop("terminals")
    whole = {"masks": np.ones_like(timeouts), **checked, "timeouts": timeouts}
    return _of_arrays(whole, None, source, keeps_last=False)


def _of_arrays(
    arrays: Mapping[str, np.ndarray], episode_limit: int | None, source: str, keeps_last: bool
) -> Dataset:
    """Builds a dataset from validated arrays with the keys of `RANKS`.

    They are transitions if there are `next_observations`, else rows in D4RL's layout, see
    `qlearning_dataset`. Warns if all rewards that are not 0 are in rows that are left out.
    """
    terminals = _terminals(arrays, source)
    known = {**arrays, "terminals": terminals}
    if "ends" in arrays and "timeouts" not in arrays:
        known["timeouts"] = (arrays["ends"] != 0) & ~terminals
    if "next_observations" in known:
        return from_transitions(known, source)
    if "timeouts" not in known and episode_limit is None:
        raise UserError(
            f"{source}: no timeouts, and no task whose episode limit could stand in for them: give "
            "--env_name, or add an array timeouts, 1 at the last step of each episode that was cut off and 0 "
            "elsewhere"
        )
    dataset = from_transitions(qlearning_dataset(known, episode_limit, keeps_last), source)
    given = np.count_nonzero(arrays["rewards"])
    if given and not np.any(dataset.batch.rewards):
        LOG.warning(
            f"{source}: every reward that is not 0 ({given:,} rows) is in a row that is left out: D4RL's "
            "layout leaves out time-outs and, in HDF5, the last row. Save transitions as .npz, with "
            "next_observations: then every row is kept"
        )
    return dataset


def _terminals(arrays: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    """Returns bool[N]; UserError if masks are not 0 or 1, or contradict terminals."""
    if "masks" not in arrays:
        return arrays["terminals"] != 0
    masks = arrays["masks"]
    terminals = arrays["terminals"] != 0 if "terminals" in arrays else masks == 0
    if (masks != ~terminals).any():
        row = np.flatnonzero(masks != ~terminals)[0]
        raise UserError(
            f"{source}: masks holds {masks[row]} at row {row}, must be 0 or 1, and equal 1 - terminals if "
            "these are given (where terminals mark time-outs, as OGBench's do, give ogbench:FILE)"
        )
    return terminals


def read_archive(path: Path, keys: Collection[str] = ()) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the arrays in a `.npz` that are among `keys`, all if there are none, and all arrays' names."""
    with reading(path, ".npz archive"), np.load(path, allow_pickle=False) as archive:
        wanted = [key for key in archive.files if key in keys or not keys]
        members: Any = archive.zip
        check_memory(sum(members.getinfo(f"{key}.npy").file_size for key in wanted), str(path))
        return {key: np.asarray(archive[key]) for key in wanted}, list(archive.files)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Opens an HDF5 file for reading; until it is closed, errors of h5py are raised as UserError.

    Refuses files in which anything is a link, or has its numbers in other files: these can change while the
    file does not, may be anything on this machine, and read as zeros if they are missing.
    """

    def elsewhere(name: str, link: Any) -> str | None:
        member = file[name] if isinstance(link, h5py.HardLink) else None
        is_elsewhere = isinstance(member, h5py.Dataset) and (member.is_virtual or member.external)
        return name if member is None or is_elsewhere else None

    with reading(path, "HDF5 file"), h5py.File(path, "r") as file:
        if name := file.visititems_links(elsewhere):  # the first name that is returned
            raise UserError(f"{path}: {name} is a link, or its numbers are in other files: copy them into it")
        yield file


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Raises UserError that names the file, a `what`, instead of whatever a library raises in the context."""
    if not path.is_file():
        raise UserError(f"{path}: " + ("a directory, not a file" if path.is_dir() else "no such file"))
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # h5py, zipfile, zlib and NumPy raise almost anything for a damaged file
        raise UserError(f"{path}: not a readable {what} ({brief(error)})") from error


def brief(said: object) -> str:
    """Returns a library's message or names from a file, shortened to one line."""
    return textwrap.shorten(str(said), LONGEST_QUOTE, placeholder=" ...")


def check_memory(num_bytes: int, what: str) -> None:
    """Raises UserError if the host's free memory has no room for a dataset of arrays of so many bytes."""
    needed, free = COPIES * num_bytes, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{what}: {needed / 1e9:,.3f} GB of memory are needed, {free / 1e9:,.3f} GB are free: use a "
            "machine with more memory, or a part of the data"
        )


def check_names(
    found: Sequence[str], required: Sequence[str], source: str, optional: Sequence[str] = ()
) -> None:
    """Raises UserError if a required array is missing, or there is one only under another library's name."""
    missing = [key for key in required if key not in found]
    advice = [
        f"rename {name} to {key}"
        for key in (*missing, *(key for key in optional if key not in found))
        for name in SYNONYMS.get(key, ())
        if name in found
    ]
    if not missing and not advice:
        return
    if "terminals" in missing and "dones" in found:
        advice.append(DONES)
    held = brief(", ".join(found) or "nothing")
    told = f"no array {', '.join(missing)}; " if missing else ""
    raise UserError(f"{source}: {told}the file holds {held}{'; '.join(['', *advice])}")


def validated(arrays: Mapping[str, np.ndarray], source: str, min_rows: int = 2) -> dict[str, np.ndarray]:
    """Returns the arrays of a file as float32, after checking that they can be trained on.

    Args:
        arrays: by key, at least `observations`; the keys are those of `RANKS`. If a vector [N] is expected, a
            column [N, 1] is accepted, too, as in D4RL.
    Returns:
        f32 arrays, C-contiguous: [N, O], [N, A] and [N], all of the same N >= min_rows.
    Raises:
        UserError: naming the file and the key for a type that is not numeric, a wrong rank, lengths that
            disagree, too few rows, NaN or infinity in float32 (with the first such rows).
    """
    checked = {key: _float32(np.asarray(array), key, source) for key, array in arrays.items()}
    shape = checked["observations"].shape
    for key, array in checked.items():
        if len(array) != shape[0] or (key == "next_observations" and array.shape != shape):
            raise UserError(f"{source}: {key} and observations disagree: shapes {array.shape}, {shape}")
    if shape[0] < min_rows:
        raise UserError(f"{source}: observations has shape {shape}: at least {min_rows} rows are needed")
    return checked


def _float32(array: np.ndarray, key: str, source: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise UserError(f"{source}: {key} has type {array.dtype}, not a real number")
    if key == "actions" and array.dtype.kind in "biu":
        raise UserError(
            f"{source}: actions look discrete, of type {array.dtype}: this library is for continuous ones, "
            "which are floats"
        )
    if RANKS[key] == 1 and array.shape[1:] == (1,):
        array = array[:, 0]
    if array.ndim != RANKS[key] or 0 in array.shape[1:]:
        expected = "(rows,)" if RANKS[key] == 1 else "(rows, entries)"
        raise UserError(f"{source}: {key} has shape {array.shape}, expected {expected}")
    with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 become inf and are refused
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not (finite := np.isfinite(array)).all():
        rows = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
        listed = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        raise UserError(
            f"{source}: {key} holds {array[~finite][0]} at row {rows[0]}; {len(rows):,} such rows: {listed}"
        )
    return array


def says_normalized(units: Any, source: str, is_collected: bool = False) -> bool:
    """Whether a source's actions are within ±1 whatever the environment's bounds, by its `action_units`.

    Before this project's collector wrote units, it normalised actions; `is_collected` tells such data.
    """
    if units is None:
        return is_collected
    text = np.asarray(units).astype(str).tolist()
    if text not in (NORMALIZED, ENVIRONMENT):
        raise UserError(f"{source}: {UNITS} is {brief(text)!r}, must be {NORMALIZED} or {ENVIRONMENT}")
    return text == NORMALIZED
