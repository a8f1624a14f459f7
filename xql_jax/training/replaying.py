"""Members that act, on the host or in the program: the replay buffers that they learn from."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import replay
from xql_jax.data.replay import PriorData, ReplayBuffer, Spans
from xql_jax.training.checkpoints import Items, Progress, Snapshot
from xql_jax.training.members import Experience, Member, MemberState, copied_to
from xql_jax.training.population import MemberProgram, Population, Source
from xql_jax.training.replay_files import ReplayFiles, rows_since
from xql_jax.training.schedule import ActingSchedule
from xql_jax.training.trainer import Trainer
from xql_jax.types import (
    AnyBatch,
    Array,
    Batch,
    CalibratedBatch,
    EpisodeBatch,
    Learner,
    Minibatch,
    PRNGKey,
)

NUM_ERRORS = 1_024  # Bellman errors per member and measurement


class ActingTrainer(Trainer):
    """Members that act. Their buffers are kept with their states, and have files of their own.

    Args:
        sizes: the lengths of an observation and of an action.
        handover: the step before the first that acts: the number of updates of the offline phase.
        prior_data: learned from besides the buffer.
        together, training: see `Population`.
    """

    unit = "step"

    def __init__(
        self,
        learner: Learner,
        members: Sequence[Member],
        schedule: ActingSchedule,
        files: ReplayFiles,
        sizes: tuple[int, int],
        handover: int = 0,
        prior_data: PriorData | None = None,
        together: bool | None = None,
        training: MemberProgram | None = None,
    ):
        kind: type[AnyBatch] = type(prior_data.batch) if prior_data else Batch
        kind = EpisodeBatch if schedule.horizon.steps > 1 else kind
        empty = functools.partial(replay.empty, schedule.buffer_size, *sizes, kind)
        self._shapes = jax.eval_shape(empty)
        super().__init__(
            Population(
                learner, members, drawn_from_buffers(schedule, self._shapes, prior_data), together, training
            ),
            handover,
        )
        self.schedule, self.stride = schedule, schedule.round_steps
        self._files = files
        self._saved = 0  # the acting steps of the last checkpoint
        self._changing: dict[str, int] = {}  # by member: the first transition that had no return-to-go there
        for group in self.population.groups:
            make = jax.jit(jax.vmap(lambda _: empty()), out_shardings=group.split)
            group.members = group.members.replace(buffer=make(jnp.arange(len(group.indices))))

    def snapshot(self, progress: Progress) -> Snapshot:
        """Returns a snapshot that also writes the transitions since the last one.

        It writes those again of the episodes that were running then, because their returns-to-go may have
        become known. It also removes the files that no checkpoint needs any more.
        """
        population, rows, saved, acted = self.population, {}, self._saved, self.step - self.handover
        for index, member in enumerate(population.members):
            group, place = population.place_of(index)
            first = self._changing.get(member.name, saved)
            rows[member.name] = rows_since(group.members.buffer, first, place)
            self._changing[member.name] = first_unknown(rows[member.name], acted)
        self._saved = acted

        def write(folder: Path) -> None:
            steps = [int(path.name) for path in folder.parent.iterdir() if path.name.isdigit()]
            oldest = min((step - self.handover for step in steps if step > self.handover), default=acted)
            for name, new in rows.items():
                files = self._files.of(name)
                files.append(acted, new, saved)
                files.prune(oldest - self.schedule.buffer_size)

        return super().snapshot(progress)._replace(write_more=write)

    def resume(self, items: Items, progress: Progress) -> None:
        """Also reads the buffers as they were at the checkpoint; Damaged if their files are."""
        super().resume(items, progress)
        population = self.population
        names, acted = [member.name for member in population.members], self.step - self.handover
        num_environments = self.schedule.num_environments
        for group in population.groups:
            group.members = group.members.replace(buffer=())  # frees the old ones before reading
            rings = [self._files.of(names[index]).load(acted, self._shapes) for index in group.indices]
            rings = [replay.end_episodes(ring, num_environments) for ring in rings]
            stack = jax.tree.map(lambda *fields: np.stack(fields), *rings)
            group.members = group.members.replace(buffer=copied_to(stack, group.split))
        # Episodes that ran then will never end: their last transitions are marked, and written again.
        first, marked = max(0, acted - num_environments), self.schedule.horizon.steps > 1
        self._saved, self._changing = acted, dict.fromkeys(names, first) if marked else {}

    def bellman_errors(self) -> dict[str, np.ndarray]:
        """Bellman errors of the members on transitions drawn from their buffers, f32[M, `NUM_ERRORS`]."""
        places, step = map(self.population.place_of, range(len(self.population.members))), np.int32(self.step)
        errors = [_errors(self.schedule, *of.members.apart, place, step) for of, place in places]
        return {"error": np.stack(errors)}


def drawn_from_buffers(
    schedule: ActingSchedule, buffer: ReplayBuffer, prior_data: PriorData | None = None
) -> Source:
    """Returns the source of minibatches of each member's buffer, of these shapes, and of the data."""

    def draw(member: MemberState, data: PriorData | None, key: PRNGKey, step: Array) -> Minibatch:
        spans = _spans(schedule, member.learner)
        return replay.sample_buffer(member.buffer, key, schedule.batch_size, data, spans)

    take = functools.partial(replay.take, spans=_spans(schedule, None))
    minibatch = jax.eval_shape(take, buffer, jnp.zeros(schedule.batch_size, int))
    of_round = math.ceil(schedule.round_steps * schedule.updates_per_step)
    most_ahead = max(1, min(Source.most_ahead, of_round))
    return Source(draw, minibatch, prior_data, schedule.ramps, by_update=False, most_ahead=most_ahead)


def _spans(schedule: ActingSchedule, learner: Learner | None) -> Spans | None:
    """Returns how the learner's transitions are made of the buffer's; None: they are the same."""
    if schedule.horizon.steps == 1:
        return None
    discount = getattr(learner, "discount", 1.0)  # cloning has none
    return Spans(discount, schedule.horizon, schedule.num_environments)


@functools.partial(jax.jit, static_argnums=0)
def _errors(
    schedule: ActingSchedule, members: MemberState, experience: Experience, place: Array, step: Array
) -> Array:
    member, buffer = jax.tree.map(lambda leaf: leaf[place], (members, experience[0]))
    # No update uses the key folded with -step, because updates are numbered from 0 on.
    key = jax.random.fold_in(member.key, -step)
    batch = replay.sample_buffer(buffer, key, NUM_ERRORS, spans=_spans(schedule, member.learner))
    learner: Any = member.learner
    return learner.bellman_errors(member.state, batch)


def first_unknown(rows: AnyBatch, stop: int) -> int:
    """Returns which of transitions stop - n, ..., stop - 1 is the first without a return-to-go, or `stop`."""
    unknown = np.isneginf(rows.returns_to_go) if isinstance(rows, CalibratedBatch) else np.zeros(0, bool)
    return stop - len(unknown) + int(np.argmax(unknown)) if unknown.any() else stop
