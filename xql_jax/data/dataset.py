"""A dataset in memory: its transitions and trajectories, checks, the units of actions, and parts of it."""

import dataclasses
import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from xql_jax.data.memory import check_memory
from xql_jax.data.sampling import Trajectories
from xql_jax.data.steps import jumps
from xql_jax.errors import UserError
from xql_jax.suites.tasks import References
from xql_jax.types import ActionBounds, Batch

FILE_SUFFIXES = (".hdf5", ".h5", ".npz")
SOURCE_PREFIXES = ("minari:", "ogbench:")  # of sources that are no plain files

LOG = logging.getLogger(__name__)
ROWS_OF_SAMPLE = 16_384
SMALL_RANGE = 0.01
ROUNDING = 1e-3  # of actions within ±1, so that bounds in half precision are no mistake
ACTION_UNITS_REMEDY = "if the actions are normalised to ±1, scale them to the bounds"
JUMP = 1e-6  # in D4RL's own files a next observation farther than this from the next row's is a jump


class Note(NamedTuple):
    """A line on how a source was read, if a user may not expect it."""

    text: str
    is_suspicion: bool = False  # then it is warned of, as all `suspicions` are

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Dataset:
    """N transitions in the order of the source, on the host."""

    # NumPy float32, C-contiguous, the leading axis is all transitions. Or Trajectories, to draw windows from.
    batch: Any
    ends: np.ndarray  # bool[N], each trajectory's last transition: a terminal, a time-out, a jump
    source: str  # the file or files, for messages
    references: References | None = None  # if the data contain them
    notes: tuple[Note, ...] = ()
    # bool[N], each episode's first transition. By default where a trajectory begins; but an episode
    # may go on after a terminal, as OGBench's do after success.
    begins: np.ndarray = None  # type: ignore[assignment]  # made by __post_init__
    # bool[N], the ends that the source states. Others are jumps, which nothing explains, and the last row.
    stated: np.ndarray = None  # type: ignore[assignment]
    parts: tuple[tuple[str, int], ...] = ()  # of several sources joined: their names and numbers of rows

    def __post_init__(self) -> None:
        if self.begins is None:
            object.__setattr__(self, "begins", np.append(True, self.ends)[:-1])
        if self.stated is None:
            object.__setattr__(self, "stated", np.zeros(self.size, bool))

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

    @property
    def terminals(self) -> np.ndarray:
        """bool[N], the transitions that end in a terminal state."""
        return np.asarray(self.batch.masks == 0)

    def take(self, indices: np.ndarray) -> Any:
        """Returns the transitions of rows i64[K], in that order: f32[K, ...] fields, or windows."""
        if isinstance(self.batch, Trajectories):
            return self.batch.windows(indices)
        return jax.tree.map(lambda field: np.take(field, indices, axis=0), self.batch)

    def part(self, rows: np.ndarray | slice) -> "Dataset":
        """Returns the dataset of these rows i64[K] only, in that order. A slice of rows is not copied."""
        batch = jax.tree.map(lambda field: field[rows], self.batch)
        flags = {name: getattr(self, name)[rows] for name in ("ends", "begins", "stated")}
        return dataclasses.replace(self, batch=batch, parts=(), **flags)

    def sources(self) -> "Iterator[Dataset]":
        """Yields the dataset of each source that was joined, under the source's name."""
        start = 0
        for name, size in self.parts or [(self.source, self.size)]:
            yield dataclasses.replace(self.part(slice(start, start + size)), source=name)
            start += size

    def trajectory_lengths(self) -> np.ndarray:
        """Returns i64[T], the number of transitions of each trajectory, in file order."""
        return np.diff(np.flatnonzero(self.ends), prepend=-1)

    def trajectory_returns(self) -> np.ndarray:
        """Returns f64[T], the undiscounted return of each trajectory in reward units, in file order."""
        return summed(self.batch.rewards, self.ends)

    def fingerprint(self) -> str:
        """Returns a digest of the size and of all transitions, but not of `ends` or of the length of windows.

        It is part of a run's identity: a run is never resumed with other data of the same name.
        """
        data, digest = self, hashlib.sha256(str(self.size).encode())
        if isinstance(self.batch, Trajectories):
            data = dataclasses.replace(self, batch=dataclasses.replace(self.batch, length=1))
        for start in range(0, self.size, ROWS_OF_SAMPLE):
            for field in data.take(np.arange(start, min(start + ROWS_OF_SAMPLE, self.size))):
                digest.update(np.ascontiguousarray(field).data)
        return digest.hexdigest()[:16]

    def episodes_digest(self) -> str:
        """Returns a digest of where trajectories end and episodes begin."""
        return hashlib.sha256(np.packbits([self.ends, self.begins]).data).hexdigest()[:16]


def summed(rewards: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns f64[T], the sum of the rewards f32[N] of each trajectory, by its end bool[N].

    Each trajectory is summed by itself, so that equal trajectories have equal sums.
    """
    stops = np.flatnonzero(ends) + 1
    if not stops.size:
        return np.empty(0)
    return np.add.reduceat(np.asarray(rewards[: stops[-1]], np.float64), np.append(0, stops[:-1]))


def spread_rows(size: int) -> np.ndarray:
    """Returns i64[K], up to 16,384 row numbers spread evenly over the data; all rows of small data."""
    return np.linspace(0, size - 1, min(size, ROWS_OF_SAMPLE)).astype(np.int64)


def whole_episodes(dataset: Dataset) -> Dataset:
    """Returns the dataset with a trajectory for each episode, also if episodes go on after a terminal."""
    return dataclasses.replace(dataset, ends=np.append(dataset.begins[1:], True))


def best_trajectories(dataset: Dataset, share: float) -> Dataset:
    """Returns the episodes with the highest returns, as many as fit into a share of the rows, at least one.

    That is the data of 10%BC (Chen et al. 2021). UserError if the rows are in no order.
    """
    if share == 1.0:
        return dataset
    check_order(dataset, "the trajectories of the highest returns are to be chosen")
    episodes = whole_episodes(dataset)
    lengths = episodes.trajectory_lengths()
    best_first = np.argsort(-episodes.trajectory_returns(), kind="stable")
    fits = np.cumsum(lengths[best_first]) <= share * dataset.size
    number = max(1, np.argmin([*fits, False]))  # of episodes before the first that does not fit
    is_kept = np.isin(np.arange(len(lengths)), best_first[:number])
    part = dataset.part(np.flatnonzero(np.repeat(is_kept, lengths)))
    part.stated[-1] |= not is_kept.all()  # others are there, so it did not merely stop with the data
    return part


def drawn_rows(size: int, number: int, seed: int) -> np.ndarray:
    """Returns i64[number], rows drawn without replacement, ascending, the same for the same seed."""
    return np.sort(np.random.default_rng(seed).permutation(size)[:number])


def name_of(source: str | Dataset) -> str:
    """Returns what a source of data is called in messages and in a run's config.json."""
    return source if isinstance(source, str) else source.source


def from_transitions(arrays: Mapping[str, np.ndarray], source: str, as_iql: bool = False) -> Dataset:
    """Builds a dataset from checked transitions, of which `goes_on` marks terminals that end no episode.

    A trajectory ends where it does in IQL (its `dones_float`): at a terminal, at a jump, and at the last row;
    also at time-outs, if given. What a jump is: see `jumps`; with `as_iql`, more than 1e-6.
    """
    terminals = arrays["terminals"] != 0
    observations, next_observations = arrays["observations"], arrays["next_observations"]
    breaks = arrays["timeouts"] != 0 if "timeouts" in arrays else np.zeros(len(terminals), bool)
    stated = terminals | breaks
    if as_iql:  # a time-out alone ends nothing
        breaks = np.zeros_like(terminals)
        breaks[:-1] = np.linalg.norm(next_observations[:-1] - observations[1:], axis=1) > JUMP
    else:
        breaks[:-1] |= jumps(next_observations, observations, are_marked=bool(stated.any()))
    ends = terminals | breaks
    ends[-1:] = True
    stops = ends & (breaks | (arrays["goes_on"] == 0)) if "goes_on" in arrays else ends
    masks = 1.0 - terminals.astype(np.float32)
    fields = observations, arrays["actions"], arrays["rewards"], masks, next_observations
    return Dataset(Batch._make(fields), ends, source, begins=np.append(True, stops)[:-1], stated=stated)


def check_order(dataset: Dataset, why: str) -> None:
    """Raises UserError if the rows of a source are in no order, and says why the order is needed."""
    for source in dataset.sources():
        if told := out_of_order(source):
            raise UserError(
                f"{source.source}: {told}, but {why}: are the rows shuffled, or a part of the data? Give all "
                "in the order in which they were recorded"
            )


def out_of_order(dataset: Dataset) -> str:
    """Returns in words how many rows do not lead to the next row, and how far off they are; "" if few are."""
    if 2 * (count := np.count_nonzero(jumping_rows(dataset))) <= max(2, dataset.size):
        return ""
    observations, following = dataset.batch.observations, dataset.batch.next_observations
    size = np.median(np.abs(following[:-1] - observations[1:]).max(axis=1))
    return (
        f"{count:,} of {dataset.size:,} transitions do not lead to the next row's observation, which differs "
        f"by {size:.3g} in the median"
    )


def jumping_rows(dataset: Dataset) -> np.ndarray:
    """Returns bool[N], where a trajectory ends though nothing says so: at many rows if these are shuffled."""
    return dataset.ends & ~dataset.stated & ~dataset.terminals


def alike(least: float, most: float) -> bool:
    """Whether the range of numbers is too small to divide by: below 1% of their size, or 0."""
    return most - least <= SMALL_RANGE * max(abs(least), abs(most))


def check_spaces(dataset: Dataset, observation_dim: int, action_dim: int, name: str) -> None:
    """Raises UserError unless the dataset has the dimensions of `name`, an environment or other data."""
    for what, ours, theirs in (
        ("observations", dataset.observation_dim, observation_dim),
        ("actions", dataset.action_dim, action_dim),
    ):
        if ours != theirs:
            raise UserError(f"{dataset.source}: {what} have {ours} entries, those of {name} have {theirs}")


def with_scaled_actions(dataset: Dataset, bounds: ActionBounds) -> Dataset:
    """Returns the dataset with actions scaled from the environment's bounds to ±1; UserError if beyond these.

    A note warns of a source whose actions lie within ±1 already, although the bounds are wider: their units
    are not certain.
    """
    if bounds.are_unit:
        return dataset
    check_spaces(dataset, dataset.observation_dim, len(bounds.low), "the environment")
    notes = [*dataset.notes]
    for source in dataset.sources():
        if note := _unit_note(source, bounds):
            notes.append(note._replace(text=f"{source.source}: {note}") if dataset.parts else note)
    batch = dataset.batch._replace(actions=bounds.to_learner(dataset.batch.actions))
    return dataclasses.replace(dataset, batch=batch, notes=tuple(notes))


def _unit_note(source: Dataset, bounds: ActionBounds) -> Note | None:
    """Returns a note if the actions may be within ±1 instead of the bounds; UserError if they are beyond."""
    actions = source.batch.actions
    scaled = bounds.to_learner(actions)
    row, entry = np.unravel_index(np.abs(scaled).argmax(), scaled.shape)
    low, high = bounds.low[entry], bounds.high[entry]
    if abs(scaled[row, entry]) > 1 + ROUNDING:
        raise UserError(
            f"{source.source}: entry {entry} of the actions is {actions[row, entry]:g} in transition {row}, "
            f"beyond the environment's bounds {low:g} to {high:g}: {ACTION_UNITS_REMEDY}; if they are not, "
            "clip them"
        )
    if np.abs(actions).max() <= 1 < max(*map(abs, bounds.low), *bounds.high):
        text = f"all actions are within ±1, and the environment takes {low:g} to {high:g} in entry {entry}"
        return Note(f"{text}: {ACTION_UNITS_REMEDY}", is_suspicion=True)
    return None


def joined(datasets: Sequence[Dataset]) -> Dataset:
    """Concatenates the datasets in their order; no trajectory continues from one into the next.

    Reference returns count if all datasets that bring any agree.
    """
    first, *others = datasets
    if not others:
        return first
    for other in others:
        check_spaces(other, first.observation_dim, first.action_dim, first.source)
    references = {dataset.references for dataset in datasets} - {None}
    if len(references) > 1:
        LOG.warning(f"the data bring different reference returns, so none of them counts: {references}")
    check_memory(sum(field.nbytes for each in datasets for field in each.batch), first.source, copies=1)
    # No ends need to be added: each dataset's last transition is marked as one.
    return Dataset(
        jax.tree.map(lambda *fields: np.concatenate(fields), *(dataset.batch for dataset in datasets)),
        np.concatenate([dataset.ends for dataset in datasets]),
        ", ".join(dataset.source for dataset in datasets),
        references.pop() if len(references) == 1 else None,
        tuple(dict.fromkeys(note for dataset in datasets for note in dataset.notes)),
        np.concatenate([dataset.begins for dataset in datasets]),
        np.concatenate([dataset.stated for dataset in datasets]),
        tuple(part for data in datasets for part in data.parts or [(data.source, data.size)]),
    )


def checked_references(returns: Sequence[object], source: str) -> References | None:
    """Returns the returns of a random policy and of an expert, if not None; UserError if they are unfit."""
    low, high = returns
    if low is None and high is None:
        return None
    if not (isinstance(low, int | float) and isinstance(high, int | float) and 0 < high - low < math.inf):
        raise UserError(
            f"{source}: give none or two finite numbers, and the expert's return, {high}, must be above the "
            f"random policy's, {low}"
        )
    return References(float(low), float(high))


def listed(entries: np.ndarray) -> str:
    """Returns ascending numbers as text, with consecutive ones as first-last."""
    if not len(entries):
        return "none"
    runs = np.split(entries, np.flatnonzero(np.diff(entries) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
