"""Reads files (D4RL's HDF5, NumPy archives, OGBench's) and arrays: the one place where these are checked."""

import contextlib
import dataclasses
import logging
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

from xql_jax.data.dataset import (
    Dataset,
    checked_references,
    counted_timeouts,
    from_transitions,
    jumps,
    qlearning_dataset,
)
from xql_jax.data.names import AMBIGUOUS, by_meaning, is_known, missing_arrays
from xql_jax.errors import UserError
from xql_jax.tasks import TASKS, References, Task

LOG = logging.getLogger(__name__)

COPIES = 3  # of a file's arrays in memory: as they are read, as transitions, and as these are preprocessed
LONGEST_QUOTE = 300  # characters
STEPS = ("observations", "actions", "rewards")
REQUIRED = (*STEPS, "terminals")
D4RL_KEYS = (*REQUIRED, "timeouts")
MATRICES = ("observations", "actions", "next_observations")  # [N, entries]; all other arrays are [N]
FLAGS = ("terminals", "timeouts", "ends", "starts")  # 0 or 1
STATES = ("qpos", "button_states")  # of OGBench's simulators
UNITS = "action_units"  # beside the arrays: whether actions are in the environment's units or within ±1
NORMALIZED, ENVIRONMENT = "normalized", "environment"
# The names of the files of D4RL's tasks, and of the embedded mazes, which have D4RL's layout.
D4RL_FILES = {
    (task.dataset_url or f"{task.name}.hdf5").rpartition("/")[2]
    for task in TASKS.values()
    if task.suite != "ogbench"
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How rows become transitions, as far as their names do not say it."""

    episode_limit: int | None = None  # steps, for rows that do not say where episodes end
    is_episode: bool = False  # the rows are one episode; its observations may be one more
    terminals_are_ends: bool = False  # and masks alone tell final states, as in OGBench's
    timeouts_win: bool = False  # a row that is terminal and a time-out is taken for a time-out
    keeps_last: bool = True  # the last row stays if it is terminal
    prefers_rows: bool = False  # next observations that say no more than the next rows are not used


ROWS = Layout()


def read_hdf5(path: Path, episode_limit: int | None) -> Dataset:
    """Reads a file of rows; those of D4RL's tasks exactly as D4RL does.

    In other files `next_observations` are used if, inside an episode, they are not the next rows'
    observations, or if nothing says where episodes end.

    Args:
        episode_limit: of the task in steps, for a file that does not say where episodes end.
    Raises:
        UserError: if the file is absent or damaged, or its arrays are unfit, see `from_arrays`.
    """
    is_d4rls = path.name in D4RL_FILES
    with opened(path) as file:
        names: list[str] = []
        file.visititems(lambda name, member: names.append(name) if isinstance(member, h5py.Dataset) else None)
        names = [name for name in names if not name.startswith("metadata/")]
        read = [name for name in names if (name in D4RL_KEYS if is_d4rls else is_known(name))]
        check_memory(sum(file[name].nbytes for name in read), str(path))
        arrays = {name: file[name][()] for name in read}
        about = [f"metadata/{name}" for name in (*References._fields, UNITS)]
        *given, units = (np.asarray(file[name][()]).tolist() if name in file else None for name in about)
        normalized = says_normalized(units, str(path), is_collected="metadata/command" in file)
    layout = Layout(episode_limit, timeouts_win=is_d4rls, keeps_last=False, prefers_rows=True)
    dataset = from_arrays(arrays, str(path), layout, read if is_d4rls else names)
    return dataclasses.replace(
        dataset, references=checked_references(given, str(path)), is_normalized=normalized
    )


def read_npz(path: Path, layout: Layout) -> Dataset:
    """Reads a `.npz` of transitions, of rows, or of an episode if the layout says so.

    Raises what `read_hdf5` does. Pickled objects are refused, not run.
    """
    arrays, names = read_archive(path, is_read)
    marks = {"next_observations", "timeouts", "ends"}
    if "qpos" in names and not layout.is_episode and not marks.intersection(by_meaning(names, (), str(path))):
        raise UserError(
            f"{path}: rows without timeouts beside qpos: if they are OGBench's, whose terminals mark "
            f"time-outs, give ogbench:{path}; if not, add timeouts"
        )
    return from_arrays(arrays, str(path), layout, names)


def is_read(name: str) -> bool:
    return is_known(name) or name == UNITS


def read_ogbench(path: Path, task: Task | None = None) -> Dataset:
    """Reads a `.npz` in OGBench's layout: `terminals` mark the last row of each trajectory, a time-out.

    Terminal states, if there are any, are those with masks = 0: in OGBench's single-task data, where the goal
    is reached. Without `next_observations`, rows are steps as in OGBench's files, and the last of each
    trajectory has no next observation. With it, rows are transitions, as in what its `make_env_and_datasets`
    returns.

    OGBench's own files have no rewards: a single-task task gives them, from the states in `qpos`.
    """
    arrays, names = read_archive(path, lambda name: is_read(name) or name in STATES)
    if "rewards" not in arrays and "qpos" in arrays and task and task.suite == "ogbench":
        from xql_jax.envs.ogbench import rewarded  # which imports a simulator

        arrays = rewarded(task, arrays)
        names = [*names, "rewards", "masks"]
    if "rewards" not in arrays:
        raise UserError(
            f"{path}: no array rewards; OGBench's own files have none: give the task whose rewards are "
            "meant, as --env_name=cube-single-play-singletask-v0"
        )
    layout = Layout(terminals_are_ends=True, timeouts_win=True, keeps_last=False)
    return from_arrays(arrays, str(path), layout, names)


def from_arrays(
    arrays: Mapping[str, Any], source: str, layout: Layout = ROWS, names: Sequence[str] = ()
) -> Dataset:
    """Builds a dataset from arrays under any of the names in `names.NAMES`.

    They are transitions if there are next observations. Else they are rows: row i was seen, done and earned
    at step i, and its next observation is the next row's. A row with which an episode ends has none. It is
    left out, unless it is terminal: then the mask hides the next observation.

    Args:
        names: of all arrays, if some were not read.
    Raises:
        UserError: naming source and array, if one is missing, unfit (see `validated`), contradicts another,
            or concerns ends or next states in a way that is not certain.
    """
    names = names or list(arrays)
    meanings = by_meaning(names, STEPS if layout.is_episode else REQUIRED, source)
    if layout.terminals_are_ends:
        if "terminals" not in meanings:
            raise missing_arrays(["terminals"], names, source)
        meanings["ends"] = [*meanings.get("ends", ()), *meanings.pop("terminals")]
    given = {ours: _agreed(theirs, arrays, source) for ours, theirs in meanings.items()}
    if "terminals" not in given and "masks" not in given:
        given["terminals"] = np.zeros(len(given["actions"]) if given["actions"].ndim else 0, bool)
    if layout.is_episode:
        given = _steps_of_episode(given)
    if "next_observations" not in given:
        _refuse_shifted(given, names, source)
    called = {ours: " and ".join(theirs) for ours, theirs in meanings.items()}
    rows = validated(given, source, called, min_rows=1 if layout.is_episode else 2)
    rows["terminals"] = terminals = _terminals(rows, source)
    marks = _marks(rows, arrays, meanings)
    _settle_ambiguous(arrays, terminals, terminals if marks is None else terminals | marks, source)
    notes = [f"{theirs} is read as {ours}" for ours, theirs in called.items() if theirs != ours]
    if unused := [name for name in names if not is_read(name)]:
        notes.append(f"not used: {brief(', '.join(unused))}")
    dataset = _transitions(rows, marks, layout, source, notes)
    normalized = says_normalized(arrays.get(UNITS), source)
    return dataclasses.replace(dataset, is_normalized=normalized, notes=tuple(notes))


def _agreed(names: Sequence[str], arrays: Mapping[str, Any], source: str) -> np.ndarray:
    """Returns the array that all these names have; UserError if they have different ones."""
    first, *others = (np.asarray(arrays[name]) for name in names)
    if any(first.shape != other.shape or (first != other).any() for other in others):
        raise UserError(f"{source}: {' and '.join(names)} mean the same and differ: leave out one")
    return first


def _steps_of_episode(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of an episode as rows, of which the last is an end.

    A single flag is for the last step. If there is one observation more than there are actions, each step's
    next observation is known.
    """
    steps = len(given["actions"]) if given["actions"].ndim else 0
    last = np.arange(steps) == steps - 1
    rows = {}
    for key, array in given.items():
        is_single = key in ("terminals", "timeouts", "ends") and array.size == 1
        rows[key] = np.where(last, array.reshape(()), 0) if is_single else array
    observations = rows["observations"]
    if observations.ndim and len(observations) == steps + 1:
        rows = {"next_observations": observations[1:], **rows, "observations": observations[:-1]}
    if "ends" not in rows or rows["ends"].shape == last.shape:
        rows["ends"] = last | (rows.get("ends", last) != 0)
    return rows


def _refuse_shifted(given: Mapping[str, np.ndarray], names: Sequence[str], source: str) -> None:
    """Raises UserError for rows in which an action may stand beside what it led to, as in dm_env's."""
    actions = given["actions"]
    is_dm_env = any(name in names for name in ("discount", "discounts", "physics"))
    if is_dm_env and actions.dtype.kind == "f" and not actions[:1].any() and actions.any():
        raise UserError(
            f"{source}: the first action is 0, and there is a discount: in dm_env's layout (ExORL's) an "
            "action stands in the row that it led to: leave out each episode's first action and reward, and "
            "keep all observations"
        )
    if "is_terminal" in names:
        raise UserError(
            f"{source}: is_terminal without next_observations: in RLDS an episode's last row has no action; "
            "give next_observations, or rename it to terminals if its row has the action that led to the end"
        )


def _terminals(rows: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    """Returns bool[N]; UserError if flags are not 0 or 1, or masks contradict terminals."""
    masks, flags = rows.get("masks"), rows.get("terminals")
    if masks is None:
        return rows["terminals"] != 0
    terminals = flags != 0 if flags is not None else masks == 0
    if (masks != ~terminals).any():
        row = np.flatnonzero(masks != ~terminals)[0]
        raise UserError(
            f"{source}: masks holds {masks[row]} at row {row}, must be 0 or 1, and equal 1 - terminals if "
            "these are given (where terminals mark time-outs, as OGBench's do, give ogbench:FILE)"
        )
    return terminals


def _marks(
    rows: Mapping[str, np.ndarray], arrays: Mapping[str, Any], meanings: Mapping[str, Sequence[str]]
) -> np.ndarray | None:
    """Returns bool[N], where anything but terminals marks the end of an episode; None if nothing is given."""
    marks = [rows[key] != 0 for key in ("timeouts", "ends") if key in rows]
    if "starts" in rows:
        marks.append(np.append(rows["starts"][1:] != 0, False))
    if "episodes" in rows:  # as they are given: large numbers are rounded in float32, and text has none
        number = np.ravel(arrays[meanings["episodes"][0]])
        marks.append(np.append(number[1:] != number[:-1], False))
    if "steps" in rows and (resets := np.diff(rows["steps"]) <= 0).any():
        marks.append(np.append(resets, False))
    return np.logical_or.reduce(marks) if marks else None


def _settle_ambiguous(
    arrays: Mapping[str, Any], terminals: np.ndarray, ends: np.ndarray, source: str
) -> None:
    """Raises UserError for an ambiguous array that says something else than the terminals or the ends do."""
    for name in AMBIGUOUS.keys() & arrays.keys():
        array = np.ravel(arrays[name])
        flags = array != 0 if name in ("done", "dones") else array == 0
        says_it = [terminals] if "discount" in name else [terminals, ends]
        # The last row is an end, whether it is marked or not.
        if name == "step_type" or not any(np.array_equal(flags[:-1], each[:-1]) for each in says_it):
            raise UserError(f"{source}: {AMBIGUOUS[name].format(name)}")


def _transitions(
    rows: dict[str, np.ndarray], marks: np.ndarray | None, layout: Layout, source: str, notes: list[str]
) -> Dataset:
    """Builds a dataset from rows, and adds to the notes how it was done if that may surprise.

    Args:
        marks: bool[N], where an episode ends, besides terminals; None if nothing says it.
    """
    terminals, limit = rows["terminals"], layout.episode_limit
    uses_next = "next_observations" in rows
    timeouts = rows["timeouts"] != 0 if "timeouts" in rows else None
    if marks is None and limit is not None:
        timeouts = counted_timeouts(terminals, limit)
    if uses_next and layout.prefers_rows and timeouts is not None:
        jumping = jumps(rows["next_observations"], rows["observations"]) & ~(terminals | timeouts)[:-1]
        uses_next = bool(jumping.any())
        notes.append(
            f"inside episodes, {jumping.sum():,} next_observations are not the next row's observation"
        )
    if uses_next:
        return from_transitions({**rows, "timeouts": terminals if marks is None else marks}, source)
    if marks is None and limit is None:
        raise UserError(
            f"{source}: no timeouts, and no task whose episode limit could stand in for them: give "
            "--env_name, or add an array timeouts, 1 at the last step of each episode that was cut off and 0 "
            "elsewhere"
        )
    if marks is not None:
        rows["timeouts"] = marks if layout.timeouts_win else marks & ~terminals
        if both := int((rows["timeouts"] & terminals).sum()):
            notes.append(f"{both:,} rows are terminal and time-outs, and left out by D4RL's rule")
    dataset = from_transitions(qlearning_dataset(rows, limit, layout.keeps_last), source)
    given = np.count_nonzero(rows["rewards"])
    if given and not np.any(dataset.batch.rewards):
        LOG.warning(
            f"{source}: every reward that is not 0 ({given:,} rows) is in a row that is left out: D4RL's "
            "layout leaves out time-outs and, in HDF5, the last row. Save transitions as .npz, with "
            "next_observations: then every row is kept"
        )
    return dataset


def read_archive(
    path: Path, wants: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the arrays in a `.npz` whose names are wanted, and all arrays' names."""
    with reading(path, ".npz archive"), np.load(path, allow_pickle=False) as archive:
        wanted = [key for key in archive.files if wants(key)]
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


def validated(
    arrays: Mapping[str, np.ndarray], source: str, called: Mapping[str, str], min_rows: int
) -> dict[str, np.ndarray]:
    """Returns the arrays of a file as float32, after checking that they can be trained on.

    Args:
        arrays: by our names, at least `observations`. If a vector [N] is expected, a column [N, 1] is
            accepted, too, as in D4RL.
        called: what messages call them.
    Returns:
        f32 arrays, C-contiguous: [N, O], [N, A] and [N], all of the same N >= min_rows.
    Raises:
        UserError: naming the file and the key for a type that is not numeric, a wrong rank, lengths that
            disagree, too few rows, flags that are not 0 or 1, NaN or infinity in float32 (with the rows).
    """
    checked = {key: _float32(array, key, called.get(key, key), source) for key, array in arrays.items()}
    shape = checked["observations"].shape
    for key, array in checked.items():
        if len(array) != shape[0] or (key == "next_observations" and array.shape != shape):
            raise UserError(
                f"{source}: {called.get(key, key)} and observations disagree: shapes {array.shape}, {shape}"
            )
    if shape[0] < min_rows:
        raise UserError(f"{source}: observations has shape {shape}: at least {min_rows} rows are needed")
    return checked


def _float32(array: np.ndarray, key: str, name: str, source: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise UserError(f"{source}: {name} has type {array.dtype}, not a real number")
    if key == "actions" and array.dtype.kind in "biu":
        raise UserError(
            f"{source}: {name} look discrete, of type {array.dtype}: this library is for continuous ones, "
            "which are floats"
        )
    rank = 2 if key in MATRICES else 1
    if rank == 1 and array.shape[1:] == (1,):
        array = array[:, 0]
    if array.ndim != rank or 0 in array.shape[1:]:
        expected = "(rows,)" if rank == 1 else "(rows, entries)"
        raise UserError(f"{source}: {name} has shape {array.shape}, expected {expected}")
    with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 become inf and are refused
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not (finite := np.isfinite(array)).all():
        rows = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
        listed = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        raise UserError(
            f"{source}: {name} holds {array[~finite][0]} at row {rows[0]}; {len(rows):,} such rows: {listed}"
        )
    if key in FLAGS and (others := np.flatnonzero((array != 0) & (array != 1))).size:
        raise UserError(f"{source}: {name} holds {array[others[0]]} at row {others[0]}, must be 0 or 1")
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
