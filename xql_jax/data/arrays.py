"""From anyone's arrays to a dataset of transitions: the one place where arrays are checked."""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.data.dataset import HALF, Dataset, Note, differ, from_transitions, jumps, spread_rows
from xql_jax.data.memory import COPIES, check_memory
from xql_jax.data.names import OUR_NAMES, by_meaning, missing_arrays
from xql_jax.errors import UserError

STEP_ARRAYS = ("observations", "actions", "rewards")
REQUIRED = (*STEP_ARRAYS, "terminals")
MATRICES = ("observations", "actions", "next_observations", "following")  # [N, entries]; others are [N]
NUMERIC = "biuf"  # kinds of NumPy's types
FLAGS = ("terminals", "timeouts", "ends")  # 0 or 1
LARGE_OFFSET = 100.0  # smaller ones are of things at rest, which a simulator moves by roundings
FEW_LEFT = 1_000  # different values, too few for what was measured


@dataclasses.dataclass(frozen=True)
class Layout:
    """How rows become transitions, as far as their names do not say it."""

    episode_limit: int | None = None  # steps, for rows that do not say where episodes end
    is_episode: bool = False  # the rows are one episode; its observations may be one more
    terminals_are_ends: bool = False  # only masks mark final states, as in OGBench's files
    # As D4RL's and IQL's loaders read D4RL's files: trajectories end at terminals and jumps alone.
    as_d4rl: bool = False
    prefers_rows: bool = False  # next observations that say no more than the next rows are not used


def from_arrays(
    arrays: Mapping[str, ArrayLike], source: str, layout: Layout = Layout(), names: Sequence[str] = ()
) -> Dataset:
    """Builds a dataset from arrays under any of the names in `names.NAMES`.

    They are transitions if there are next observations. Else they are rows: row i was seen, done and earned
    at step i, and its next observation is the next row's. An episode's last row has none: it is left out,
    unless it is terminal, where the mask hides the next observation.
    UserError if an array is missing, unfit, contradicts another, or concerns ends or next states in a way
    that is not certain. `names` are those of all arrays in the source, if some were not read.
    """
    if not layout.is_episode:  # episodes are checked when they are joined
        check_memory(sum(getattr(array, "nbytes", 0) for array in arrays.values()), source, COPIES - 1)
    names = [name for name in names or arrays if not name.startswith("metadata/")]
    read = list(arrays) if layout.as_d4rl else names  # D4RL's other arrays concern nothing
    meanings = by_meaning(read, STEP_ARRAYS if layout.is_episode else REQUIRED, source)
    if layout.terminals_are_ends:
        if "terminals" not in meanings:
            raise missing_arrays(["terminals"], names, source)
        meanings["ends"] = [*meanings.get("ends", ()), *meanings.pop("terminals")]
    tells_ends = layout.is_episode or {"next_observations", "timeouts", "ends"} & meanings.keys()
    if "qpos" in names and not tells_ends:
        raise UserError(
            f"{source}: rows without timeouts beside qpos: if they are OGBench's, whose terminals mark "
            "time-outs, give ogbench:FILE; if not, add timeouts"
        )
    given = {ours: _agreed(theirs, arrays, source) for ours, theirs in meanings.items()}
    if "terminals" not in given and "masks" not in given:
        given["terminals"] = np.zeros(len(given["actions"]) if given["actions"].ndim else 0, bool)
    if layout.is_episode:
        given = _steps_of_episode(given)
    called = {ours: " and ".join(theirs) for ours, theirs in meanings.items()}
    names_told = called | {"following": f"the next row of {called.get('observations')}"}
    rows = _validated(given, source, names_told, min_rows=1 if layout.is_episode else 2)
    rows["terminals"] = _terminals(rows, source)
    if not layout.is_episode and given["rewards"].any() and not rows["rewards"].any():
        raise UserError(
            f"{source}: {called['rewards']} of up to {np.abs(given['rewards']).max():.3g} are 0 in float32: "
            "give them in another unit"
        )
    if "following" in rows:
        is_other = differ(rows["next_observations"], rows.pop("following"), HALF)
        if (is_other & ~rows["terminals"]).any():
            raise UserError(
                f"{source}: {called['next_observations']} and the last rows of {called['observations']} mean "
                "the same and differ: leave out one"
            )
    notes = [Note(f"{theirs} is read as {ours}") for ours, theirs in called.items() if theirs != ours]
    if unused := [name for name in names if name not in arrays or name not in OUR_NAMES]:
        notes.append(Note(f"not used: {brief(', '.join(unused))}"))
    dataset = _transitions(rows, layout, source, notes)
    notes += _lost_values(given["observations"], rows["observations"], layout.is_episode)
    return dataclasses.replace(dataset, notes=tuple(notes))


def _lost_values(given: np.ndarray, kept: np.ndarray, is_episode: bool) -> Iterator[Note]:
    """Yields a note if entries of observations [N, O] that lie around a large offset are alike in float32."""
    if np.can_cast(given.dtype, kept.dtype):  # exactly
        return
    rows = spread_rows(len(kept))
    offsets = given.mean(axis=0, dtype=np.float64)
    for entry in np.flatnonzero(np.abs(offsets) >= LARGE_OFFSET).tolist():
        before, left = (len(np.unique(array[rows, entry])) for array in (given, kept))
        if 2 * left < before and left < FEW_LEFT:
            counted = "few of its" if is_episode else f"{left:,} of {before:,}"
            yield Note(
                f"entry {entry} of the observations: float32 leaves {counted} different values, because they "
                "lie around a large offset: subtract that, in the environment, too",
                is_suspicion=True,
            )


def _agreed(names: Sequence[str], arrays: Mapping[str, ArrayLike], source: str) -> np.ndarray:
    """Returns the array that all these names have; UserError if they have different ones."""
    first, *others = (np.asarray(arrays[name]) for name in names)
    if any(other.dtype.kind not in NUMERIC or not np.array_equal(first, other) for other in others):
        raise UserError(f"{source}: {' and '.join(names)} mean the same and differ: leave out one")
    return first


def _steps_of_episode(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of an episode as rows, of which the last is an end; a single flag is for that one.

    If there is one observation more than there are actions, each step's next observation is known.
    """
    steps = len(given["actions"]) if given["actions"].ndim else 0
    last = np.arange(steps) == steps - 1
    rows = {}
    for key, array in given.items():
        is_single = key in FLAGS and array.size == 1 and array.dtype.kind in NUMERIC  # else refused as it is
        rows[key] = np.where(last, array.reshape(()), 0) if is_single else array
    observations = rows["observations"]
    if observations.ndim and len(observations) == steps + 1:
        key = "following" if "next_observations" in rows else "next_observations"
        rows |= {key: observations[1:], "observations": observations[:-1]}
    ends = rows.setdefault("ends", last)
    if ends.dtype.kind in NUMERIC and ends.shape == last.shape:
        rows["ends"] = np.where(last, 1, ends)
    return rows


def _terminals(rows: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    """Returns bool[N]; UserError if flags are not 0 or 1, or masks contradict terminals."""
    if "masks" not in rows:
        return rows["terminals"] != 0
    masks = rows["masks"]
    terminals = rows["terminals"] != 0 if "terminals" in rows else masks == 0
    wrong = np.flatnonzero(masks != ~terminals)
    if wrong.size:
        raise UserError(
            f"{source}: masks holds {masks[wrong[0]]} at row {wrong[0]}, must be 0 or 1, and "
            "1 - terminals (where terminals mark time-outs, as OGBench's do, give ogbench:FILE)"
        )
    return terminals


def _transitions(rows: dict[str, np.ndarray], layout: Layout, source: str, notes: list[Note]) -> Dataset:
    """Builds a dataset from checked rows, and adds to the notes what may surprise."""
    terminals, limit = rows["terminals"], layout.episode_limit
    stated = [rows[key] != 0 for key in ("timeouts", "ends") if key in rows]
    marks, tells_ends = np.logical_or.reduce([np.zeros_like(terminals), *stated]), bool(stated)
    if "ends" in rows:  # all ends are stated
        rows["goes_on"] = terminals & ~marks

    def counting(number: int) -> str:  # alike in all episodes of a folder, which has one line for all
        return "rows" if layout.is_episode else f"{number:,} of {len(terminals):,} rows"

    uses_next = knows_next = "next_observations" in rows
    timeouts = rows["timeouts"] != 0 if "timeouts" in rows else None
    # Whether the last row is left out, and a row that is terminal and a time-out, even so.
    leaves_out_ends = layout.as_d4rl or layout.terminals_are_ends
    timeouts_win = leaves_out_ends and not uses_next
    cut = marks if timeouts_win else timeouts
    if cut is not None and (both := int(np.count_nonzero(cut & terminals))):
        counted = "left out as time-outs" if timeouts_win else "count as terminals"
        notes.append(Note(f"{counting(both)} are terminal and time-outs, and {counted}"))
    if not tells_ends and limit is not None:
        timeouts = counted_timeouts(terminals, limit, as_d4rl=layout.as_d4rl)
    if uses_next and layout.prefers_rows and timeouts is not None:
        ends = terminals | timeouts | marks
        jumping = jumps(rows["next_observations"], rows["observations"], ends.any()) & ~ends[:-1]
        if uses_next := bool(jumping.any()):
            number = np.count_nonzero(jumping)
            notes.append(
                Note(f"next_observations are used: inside episodes, {number:,} are not the next row's")
            )
    if uses_next:
        return from_transitions({**rows, "timeouts": marks}, source)
    if tells_ends:
        timeouts = marks if leaves_out_ends else marks & ~terminals
    elif timeouts is None:
        raise UserError(
            f"{source}: no timeouts, and no task whose episode limit could stand in for them: give "
            "--env_name, or add an array timeouts, 1 at the last step of each episode that was cut off"
        )
    elif timeouts.any() or not knows_next:
        text = (
            f"no timeouts: episodes are cut every {limit:,} steps, the task's limit; if they ended "
            "elsewhere, add an array timeouts, 1 at the last step of each"
        )
        notes.append(Note(text, is_suspicion=not layout.as_d4rl))
    transitions = qlearning_dataset(rows, timeouts, keeps_last=not leaves_out_ends)
    dataset = from_transitions(transitions, source, layout.as_d4rl)
    if left_out := len(terminals) - dataset.size:
        of_file = " and of the file" if layout.as_d4rl else ""
        is_known = knows_next or (layout.as_d4rl and terminals[-1])
        why = "without next_observations their next states are not known"
        why = "as by D4RL's loader; .npz files keep them" if is_known else why
        text = f"{counting(left_out)} are left out, the last of episodes that were cut off{of_file}: {why}"
        if layout.is_episode and not dataset.size:
            text = f"episodes of one row are left out: {why}"
        if is_odd := 2 * left_out > len(terminals) and not layout.is_episode:
            text += ": are the rows in the order in which they were recorded?"
        notes.append(Note(text, is_odd))
    return dataset


def qlearning_dataset(
    rows: Mapping[str, np.ndarray], timeouts: np.ndarray, keeps_last: bool
) -> dict[str, np.ndarray]:
    """Turns rows into transitions, as D4RL's `qlearning_dataset` with `terminate_on_end=False` does.

    Row i becomes (o_i, a_i, r_i, terminal_i, o_{i+1}). A row with a time-out, bool[N], is left out, because
    the next row belongs to another episode. So is the last row, unless it is terminal and `keeps_last`. A
    terminal row stays: its mask hides the next observation. `timeouts`, which D4RL's has not, are 1 where the
    next row was left out as one.

    Source: `d4rl.qlearning_dataset`, D4RL 1.1, here without its loop over rows. Differs: `keeps_last`.
    """
    terminals = rows["terminals"]
    left_out = timeouts.copy()
    left_out[-1] |= not (keeps_last and terminals[-1])
    kept = np.flatnonzero(~left_out)
    transitions = {key: rows[key][kept] for key in (*REQUIRED, "goes_on") if key in rows}
    transitions["next_observations"] = rows["observations"][np.minimum(kept + 1, len(terminals) - 1)]
    transitions["timeouts"] = np.append(timeouts[1:], False)[kept]
    return transitions


def counted_timeouts(terminals: np.ndarray, episode_limit: int, as_d4rl: bool) -> np.ndarray:
    """Returns bool[N]: the last rows of the episodes that are as long as the limit and not terminal.

    With `as_d4rl`, its loader's step counter stands at the limit there, which restarts from 0 after a
    time-out but from 1 after a terminal: an episode after a terminal is cut one row early, and the next row
    leads into another episode. A terminal row at the limit counts as cut.
    """
    starts = np.append(0, np.flatnonzero(terminals[:-1]) + 1)
    counter = np.empty(len(terminals), np.int64)
    first = 0
    for start, stop in zip(starts, np.append(starts[1:], len(terminals)), strict=True):
        counter[start:stop] = np.arange(first, first + stop - start) % episode_limit
        first = 1 if as_d4rl and counter[stop - 1] != episode_limit - 1 else 0
    at_limit = counter == episode_limit - 1
    return at_limit if as_d4rl else at_limit & ~terminals


def _validated(
    arrays: Mapping[str, np.ndarray], source: str, called: Mapping[str, str], min_rows: int
) -> dict[str, np.ndarray]:
    """Returns the arrays, by our names, as C-contiguous f32[N, O], f32[N, A] and f32[N], N >= min_rows.

    A vector [N] may be a column [N, 1], as in D4RL. Messages use the names in `called`.
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
    if array.dtype.kind not in NUMERIC:
        raise UserError(f"{source}: {name} has type {array.dtype}, not a real number")
    if key == "actions" and array.dtype.kind in "biu":
        raise UserError(f"{source}: {name} look discrete, of type {array.dtype}, and must be floats")
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
        raise UserError(
            f"{source}: {name} holds {array[~finite][0]} at row {rows[0]}; rows with such values: "
            f"{len(rows):,}"
        )
    if key in FLAGS and (others := np.flatnonzero((array != 0) & (array != 1))).size:
        raise UserError(f"{source}: {name} holds {array[others[0]]} at row {others[0]}, must be 0 or 1")
    return array


def brief(said: object) -> str:
    """Returns a library's message or names from a file, shortened to one line."""
    return textwrap.shorten(str(said), 300, placeholder=" ...")
