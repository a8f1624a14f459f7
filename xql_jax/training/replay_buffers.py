"""The replay buffers of a population whose members act, their files, and returns-to-go found out later."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import replay
from xql_jax.data.replay import ReplayBuffer
from xql_jax.data.views import discounted_returns
from xql_jax.training.groups import copied_to
from xql_jax.training.members import Experience, MemberState
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles, rows_since
from xql_jax.training.schedule import ActingSchedule
from xql_jax.types import AnyBatch, Array, Batch, CalibratedBatch

NUM_ERRORS = 1_024  # Bellman errors per member and measurement


class ReplayBuffers:
    """A replay buffer for each member, empty at first, kept with its state, and the buffers' files.

    `sizes` are the lengths of an observation and of an action.
    """

    def __init__(
        self,
        population: Population,
        schedule: ActingSchedule,
        files: ReplayFiles,
        sizes: tuple[int, int],
        batch_type: type[AnyBatch] = Batch,
    ):
        self._population, self._schedule, self._files = population, schedule, files
        self._saved_at = [0]  # acting steps of the last checkpoints
        self._changing: dict[str, int] = {}  # by member: the first transition that had no return-to-go there

        def empty(_: Array | None = None) -> ReplayBuffer:
            return replay.empty(schedule.buffer_size, *sizes, batch_type)

        self._shapes = jax.eval_shape(empty)
        for group in population.groups:
            buffers = jax.jit(jax.vmap(empty), out_shardings=group.split)(jnp.arange(len(group.indices)))
            group.members = group.members.replace(buffer=buffers)

    def prepare_saving(self, acted: int) -> Callable[[], None]:
        """Returns a function that writes the transitions from the last checkpoint until step `acted`.

        It writes those again of the episodes that were running then, because their returns-to-go may have
        become known. It also removes the files that no checkpoint needs any more.
        """
        rows, kept, saved = {}, self._schedule.keep_checkpoints, self._saved_at[-1]
        for index, member in enumerate(self._population.members):
            group, place = self._population.place_of(index)
            first = self._changing.get(member.name, saved)
            rows[member.name] = rows_since(group.members.buffer, first, place)
            self._changing[member.name] = first_unknown(rows[member.name], acted)
        # One more than the number to keep, because the newest is written before the oldest is removed.
        # After a resumption there can be checkpoints that are not known here.
        self._saved_at = [*self._saved_at, acted][-kept - 1 if kept else 0 :]
        oldest = self._saved_at[0] if 0 < kept < len(self._saved_at) else 0

        def write() -> None:
            for name, new in rows.items():
                files = self._files.of(name)
                files.append(acted, new, saved)
                files.prune(oldest - self._schedule.buffer_size)

        return write

    def load(self, acted: int) -> None:
        """Reads the buffers as they were at step `acted` of acting; Damaged if their files are."""
        for group in self._population.groups:
            group.members = group.members.replace(buffer=())  # frees the old ones before reading
            names = [self._population.members[index].name for index in group.indices]
            rings = [self._files.of(name).load(acted, self._shapes) for name in names]
            rings = [replay.end_episodes(ring, self._schedule.num_environments) for ring in rings]
            stack = jax.tree.map(lambda *fields: np.stack(fields), *rings)
            group.members = group.members.replace(buffer=copied_to(stack, group.split))
        # Episodes that ran then will never end: their last transitions are marked, and written again.
        first = max(0, acted - self._schedule.num_environments)
        marked = self._schedule.horizon.steps > 1
        names = [member.name for member in self._population.members]
        self._saved_at, self._changing = [acted], dict.fromkeys(names, first) if marked else {}


def bellman_errors(population: Population) -> np.ndarray:
    """Bellman errors of the members on transitions drawn from their buffers, f32[M, `NUM_ERRORS`]."""
    schedule = population.schedule  # type: ignore[attr-defined]  # those whose members act have one
    places, step = map(population.place_of, range(len(population.members))), np.int32(population.step)
    return np.stack([_errors(schedule, *group.members.apart, place, step) for group, place in places])


@functools.partial(jax.jit, static_argnums=0)
def _errors(
    schedule: ActingSchedule, members: MemberState, experience: Experience, place: Array, step: Array
) -> Array:
    member, buffer = jax.tree.map(lambda leaf: leaf[place], (members, experience[0]))
    # No update uses the key folded with -step, because updates are numbered from 0 on.
    key = jax.random.fold_in(member.key, -step)
    spans = replay.spans_of(member.learner, schedule.horizon, schedule.num_environments)
    batch = replay.sample_buffer(buffer, key, NUM_ERRORS, spans=spans)
    learner: Any = member.learner
    return learner.bellman_errors(member.state, batch)


class RunningReturns:
    """The rewards of N environments' running episodes; when these end, their returns-to-go are known."""

    def __init__(self, number: int):
        self._rows: list[list[tuple[int, float, float]]] = [[] for _ in range(number)]
        self._known: list[tuple[int, float]] = []

    def step(self, first: int, batch: AnyBatch, ended: np.ndarray, learner: Any) -> CalibratedBatch:
        """Returns the transitions `first`, ..., first + N - 1 with an unknown return-to-go, -inf.

        `ended` bool[N] is true where an episode ends, by a terminal or a time-out.
        """
        for index, rows in enumerate(self._rows):
            rows.append((first + index, float(batch.rewards[index]), float(batch.masks[index])))
            if ended[index]:
                numbers, rewards, masks = zip(*rows, strict=True)
                is_last = np.arange(len(rows)) == len(rows) - 1
                returns = discounted_returns(rewards, masks, is_last, learner.discount, learner.endless)
                self._known += zip(numbers, returns.tolist(), strict=True)
                rows.clear()
        unknown: Any = np.full(len(ended), -np.inf, np.float32)  # NumPy's
        return CalibratedBatch(**batch._asdict(), returns_to_go=unknown)

    def known(self) -> list[tuple[int, float]]:
        """Returns (transition's number, return-to-go) of the episodes that have ended since the last call."""
        known, self._known = self._known, []
        return known


def with_returns(buffers: ReplayBuffer, known: Sequence[Sequence[tuple[int, float]]]) -> ReplayBuffer:
    """Returns buffers f32[m, capacity, ...] with each one's `RunningReturns.known`, unless overwritten."""
    returns = np.array(buffers.data.returns_to_go)
    for ring, inserted, pairs in zip(returns, np.asarray(buffers.inserted), known, strict=True):
        for number, value in pairs:
            if number >= inserted - len(ring):
                ring[number % len(ring)] = value
    placed = copied_to(returns, buffers.data.rewards.sharding)
    return ReplayBuffer(buffers.data._replace(returns_to_go=placed), buffers.inserted)


def first_unknown(rows: AnyBatch, stop: int) -> int:
    """Returns which of transitions stop - n, ..., stop - 1 is the first without a return-to-go, or `stop`."""
    unknown = np.isneginf(rows.returns_to_go) if isinstance(rows, CalibratedBatch) else np.zeros(0, bool)
    return stop - len(unknown) + int(np.argmax(unknown)) if unknown.any() else stop
