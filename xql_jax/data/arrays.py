"""From anyone's arrays to a dataset of transitions: the one place where arrays are checked."""

import dataclasses
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.data.dataset import ROWS_OF_SAMPLE, Dataset, Note, from_transitions, spread_rows
from xql_jax.data.memory import COPIES, check_memory
from xql_jax.data.names import OUR_NAMES, by_meaning, missing_arrays, shown
from xql_jax.data.steps import HALF, are_larger, differ, exceeds, step_sizes
from xql_jax.errors import UserError

STEP_ARRAYS = ("observations", "actions", "rewards")
REQUIRED = (*STEP_ARRAYS, "terminals")
MATRICES = ("observations", "actions", "next_observations", "following")  # [N, entries]; others are [N]
NUMERIC = "biuf"  # kinds of NumPy's types
FLAGS = ("terminals", "timeouts", "ends")  # 0 or 1
LARGE_OFFSET = 100.0  # smaller ones are of things at rest, which a simulator moves by roundings
FEW_LEFT = 1_000  # different values, too few for what was measured
MOST_ENVIRONMENTS = 4_096  # that take turns
MORE_OFTEN = 0.6  # share of pairs in which one step is larger than another, see `exceeds`
ONLY_RESETS = (
    "each follows an end, has reward 0 and leads into the next episode, so an environment only resets there, "
    "and its action did nothing (autoreset of Gymnasium's vector environments)"
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How rows become transitions, where the names of their arrays do not say it."""

    episode_limit: int | None = None  # steps, for rows that do not say where episodes end
    is_episode: bool = False  # the rows are an episode, which may have an observation more
    terminals_are_ends: bool = False  # only masks mark final states, as in OGBench's files
    # As D4RL's and IQL's loaders read D4RL's files: trajectories end at terminals and jumps alone.
    as_d4rl: bool = False
    unused: Collection[str] = ()  # names of arrays that are as if they were not there

    @property
    def leaves_out_ends(self) -> bool:
        """Whether rows at an end, and the last row, are left out even if they are terminal."""
        return self.as_d4rl or self.terminals_are_ends


ROWS = Layout()


def from_arrays(
    arrays: Mapping[str, ArrayLike], source: str, layout: Layout = ROWS, names: Sequence[str] = ()
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
    arrays = {name: array for name, array in arrays.items() if name not in layout.unused}
    meanings = _meanings(arrays, names, source, layout)
    values = {ours: _agreed(theirs, arrays, source) for ours, theirs in meanings.items()}
    if "terminals" not in values and "masks" not in values:
        values["terminals"] = np.zeros(len(values["actions"]) if values["actions"].ndim else 0, bool)
    if layout.is_episode:
        values = _steps_of_episode(values)
    called = {ours: " and ".join(theirs) for ours, theirs in meanings.items()}
    names_told = called | {"following": f"the next row of {called.get('observations')}"}
    rows = _validated(values, source, names_told, min_rows=1 if layout.is_episode else 2)
    rows["terminals"] = _terminals(rows, source)
    if not layout.is_episode and values["rewards"].any() and not rows["rewards"].any():
        raise UserError(
            f"{source}: {called['rewards']} of up to {np.abs(values['rewards']).max():.3g} are 0 in float32: "
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
        notes.append(Note(f"not used: {shown(unused)}"))
    dataset = _transitions(rows, layout, source, notes)
    notes += _lost_values(values["observations"], rows["observations"], layout.is_episode)
    return dataclasses.replace(dataset, notes=tuple(notes))


def _meanings(
    arrays: Collection[str], names: Sequence[str], source: str, layout: Layout
) -> dict[str, list[str]]:
    """Returns by our name the names that mean it; UserError if the names do not tell where episodes end.

    `arrays` are the names of the arrays that are read, `names` those of all arrays in the source.
    """
    # D4RL's other arrays concern nothing.
    read = [name for name in (arrays if layout.as_d4rl else names) if name not in layout.unused]
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
    return meanings


def _lost_values(read: np.ndarray, kept: np.ndarray, is_episode: bool) -> Iterator[Note]:
    """Yields a note if entries of observations [N, O] that lie around a large offset are alike in float32."""
    if np.can_cast(read.dtype, kept.dtype):  # exactly
        return
    rows = spread_rows(len(kept))
    offsets = read.mean(axis=0, dtype=np.float64)
    for entry in np.flatnonzero(np.abs(offsets) >= LARGE_OFFSET).tolist():
        before, left = (len(np.unique(array[rows, entry])) for array in (read, kept))
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


def _steps_of_episode(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of an episode as rows, of which the last is an end; a single flag is of that row.

    If there is an observation more than there are actions, each step's next observation is known.
    """
    steps = len(values["actions"]) if values["actions"].ndim else 0
    last = np.arange(steps) == steps - 1
    rows = {}
    for key, array in values.items():
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
    is_stated = not {"timeouts", "ends"}.isdisjoint(rows)
    if "ends" in rows:  # all ends are stated
        rows = rows | {"goes_on": rows["terminals"] & ~_marks(rows)}
    if (is_stated or "next_observations" in rows) and not (layout.is_episode or layout.leaves_out_ends):
        rows = _without_resets(rows, notes)
    marks = _marks(rows)
    _note_both(rows, marks, layout, notes)
    if "next_observations" in rows:
        return from_transitions(rows | {"timeouts": marks}, source)
    if not is_stated:
        marks = _counted(rows, layout, source, notes)
    timeouts = marks if layout.leaves_out_ends else marks & ~rows["terminals"]
    kept = qlearning_dataset(rows, timeouts, keeps_last=not layout.leaves_out_ends)
    dataset = from_transitions(kept, source, layout.as_d4rl)
    _note_left_out(rows, dataset, layout, notes)
    return dataset


def _marks(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns bool[N], where the rows state that a recording stopped or that an episode ended."""
    stated = [rows[key] != 0 for key in ("timeouts", "ends") if key in rows]
    return np.logical_or.reduce([np.zeros_like(rows["terminals"]), *stated])


def rows_of_resets(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns bool[N], the rows in which a vector environment only resets.

    Gymnasium's vector environments reset in the step after an end. The row of such a step begins where the
    episode ended, its action is ignored and its reward is 0, and it leads into the next episode. It comes
    right after the end or, where environments take turns, a round later.
    """
    ends, rewards, observations = rows["terminals"] | _marks(rows), rows["rewards"], rows["observations"]
    knows_next = "next_observations" in rows
    following = rows["next_observations"] if knows_next else _next_rows(observations)
    stride = _stride(observations, following) if knows_next else 1
    last = np.flatnonzero(ends[:-stride])
    after = last + stride
    goes_on = ~differ(following[last], observations[after])
    after = after[goes_on & (rewards[after] == 0) & ~ends[after]]
    resets = np.zeros_like(ends)
    # A few ends may be the last of an environment.
    if len(after) < 2 or len(after) < 0.75 * len(last):
        return resets
    others = np.setdiff1d(spread_rows(len(ends)), [*after, *(after - stride)])
    steps, into_next, to_end = step_sizes(observations, following, others, after, after - stride)
    is_dense = len(after) > 5 and (rewards[others] == 0).mean() < 0.1  # elsewhere rewards are hardly ever 0
    # Without next observations: if it is the end that jumps, the row after it is an episode's first.
    is_first = (to_end > np.quantile(steps, 0.99)) & (to_end > into_next) & (not knows_next)
    is_seam = knows_next or exceeds(into_next, to_end) > MORE_OFTEN
    resets[after] = ~is_first & is_seam & (is_dense or are_larger(into_next, steps))
    return resets


def _stride(observations: np.ndarray, following: np.ndarray) -> int:
    """Returns after how many rows an environment's next row comes; 1 if the rows do not tell."""
    rows = spread_rows(len(observations))[:: max(1, min(len(observations), ROWS_OF_SAMPLE) // 64)]
    strides: list[int] = []
    for row in rows:
        near = observations[row + 1 : row + 1 + MOST_ENVIRONMENTS]
        strides += (np.flatnonzero((near == following[row]).all(axis=1))[:1] + 1).tolist()
    return int(np.bincount(strides).argmax()) if 2 * len(strides) > len(rows) else 1


def _without_resets(rows: dict[str, np.ndarray], notes: list[Note]) -> dict[str, np.ndarray]:
    """Returns the rows without `rows_of_resets`; if there are any, all others have next observations."""
    resets = rows_of_resets(rows)
    if not resets.any():
        return rows
    notes.append(Note(f"{np.count_nonzero(resets):,} of {len(resets):,} rows are left out: {ONLY_RESETS}"))
    kept = ~resets
    if "next_observations" not in rows:  # a row that is left out tells the last observation of its episode
        rows = rows | {"next_observations": _next_rows(rows["observations"])}
        kept &= rows["terminals"] | ~_marks(rows) | np.append(resets[1:], False)
        kept[-1] &= rows["terminals"][-1]
        cut = np.append((~kept & ~resets)[1:], False)  # the next row has no transition
        rows |= {"timeouts": np.maximum(rows.get("timeouts", 0), cut & ~rows["terminals"])}
    return {key: array[kept] for key, array in rows.items()}


def _next_rows(array: np.ndarray) -> np.ndarray:
    """Returns each row's next row; the last row's is itself."""
    return np.append(array[1:], array[-1:], axis=0)


def _counted(rows: Mapping[str, np.ndarray], layout: Layout, source: str, notes: list[Note]) -> np.ndarray:
    """Returns bool[N], the time-outs by the episode limit, as nothing states where episodes end."""
    limit = layout.episode_limit
    if limit is None:
        raise UserError(
            f"{source}: no timeouts, and no task whose episode limit could stand in for them: give "
            "--env_name, or add an array timeouts, 1 at the last step of each episode that was cut off"
        )
    text = (
        f"no timeouts: episodes are cut every {limit:,} steps, the task's limit; if they ended "
        "elsewhere, add an array timeouts, 1 at the last step of each"
    )
    notes.append(Note(text, is_suspicion=not layout.as_d4rl))
    return counted_timeouts(rows["terminals"], limit, as_d4rl=layout.as_d4rl)


def _share(count: int, rows: Mapping[str, np.ndarray], layout: Layout) -> str:
    """Returns a count in words: the same words for all episodes of a folder, which share a line."""
    return "rows" if layout.is_episode else f"{count:,} of {len(rows['terminals']):,} rows"


def _note_both(rows: Mapping[str, np.ndarray], marks: np.ndarray, layout: Layout, notes: list[Note]) -> None:
    """Notes rows that are terminal and time-outs; `ends` may mark terminals, too."""
    is_left_out = layout.leaves_out_ends and "next_observations" not in rows
    cut = marks if is_left_out else rows.get("timeouts", np.zeros(1)) != 0
    if both := int(np.count_nonzero(cut & rows["terminals"])):
        counted = "left out as time-outs" if is_left_out else "count as terminals"
        notes.append(Note(f"{_share(both, rows, layout)} are terminal and time-outs, and {counted}"))


def _note_left_out(
    rows: Mapping[str, np.ndarray], dataset: Dataset, layout: Layout, notes: list[Note]
) -> None:
    """Notes how many rows have no next observation, and so are no transitions."""
    number = len(rows["terminals"])
    if not (left_out := number - dataset.size):
        return
    of_file = " and of the file" if layout.as_d4rl else ""
    why = "without next_observations their next states are not known"
    if layout.as_d4rl and rows["terminals"][-1]:
        why = "as by D4RL's loader; .npz files keep them"
    counted = _share(left_out, rows, layout)
    text = f"{counted} are left out, the last of episodes that were cut off{of_file}: {why}"
    if layout.is_episode and not dataset.size:
        text = f"episodes of one row are left out: {why}"
    if is_odd := 2 * left_out > number and not layout.is_episode:
        text += ": are the rows in the order in which they were recorded?"
    notes.append(Note(text, is_odd))


def qlearning_dataset(
    rows: Mapping[str, np.ndarray], timeouts: np.ndarray, keeps_last: bool
) -> dict[str, np.ndarray]:
    """Turns rows into transitions, as D4RL's `qlearning_dataset` with `terminate_on_end=False` does.

    Row i becomes (o_i, a_i, r_i, terminal_i, o_{i+1}). A row with a time-out, bool[N], is left out, because
    the next row belongs to another episode. So is the last row, unless it is terminal and `keeps_last`. A
    terminal row stays: its mask hides the next observation. `timeouts`, which D4RL's has not, are 1 where the
    next row was left out as a time-out.

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
