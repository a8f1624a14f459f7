"""Populations whose members act: each has a replay buffer, whose files are written with the checkpoints."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import replay
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Divergence, Member
from xql_jax.training.population import Population, Saving
from xql_jax.training.replay_files import ReplayFiles, rows_since
from xql_jax.training.returns import first_unknown
from xql_jax.training.schedule import ActingSchedule
from xql_jax.training.updates import MemberState
from xql_jax.types import Array, Batch, Learner, Metrics, Minibatch, PRNGKey

EPISODE_METRICS = ("episode/return", "episode/length")  # means over the episodes that ended last
NUM_ERRORS = 1_024  # Bellman errors per member and measurement


class ActingPopulation(Population):
    """What `Host` and `Compiled` share: replay buffers, and when updates are due.

    Args:
        sizes: the lengths of an observation and of an action.
        handover: the step before the first that acts; also the number of updates until then.
        batch_type: of the buffer's transitions.
    """

    unit = "step"

    def __init__(
        self,
        learner: Learner,
        members: Sequence[Member],
        schedule: ActingSchedule,
        files: ReplayFiles,
        sizes: tuple[int, int],
        *,
        handover: int = 0,
        batch_type: Any = Batch,
        together: bool | None = None,
    ):
        self.schedule, self.stride, self.handover = schedule, schedule.round_steps, handover
        # By index: the divergences after which a member's networks were reinitialised.
        self.restarts: dict[int, list[Divergence]] = {}
        self._files = files
        self._saved_at = [0]  # acting steps of the last checkpoints
        self._changing: dict[str, int] = {}  # by member: the first transition that had no return-to-go there
        # The metrics' shapes do not depend on the batch size.
        super().__init__(learner, members, replay.empty(1, *sizes, batch_type).data, together)

        def empty(_: Any = None) -> replay.ReplayBuffer:
            return replay.empty(schedule.buffer_size, *sizes, batch_type)

        self._buffer_shapes = jax.eval_shape(empty)
        for group in self.groups:
            buffers = jax.jit(jax.vmap(empty), out_shardings=group.split)(jnp.arange(len(group.indices)))
            group.members = group.members.replace(buffer=buffers)

    def draw(self, member: MemberState, data: Any, key: PRNGKey, step: Array) -> Minibatch:
        return replay.sample_buffer(member.buffer, key, self.schedule.batch_size, data)

    @property
    def acted(self) -> int:
        """The number of steps of acting so far."""
        return self.step - self.handover

    def episode_means(self) -> tuple[Array, Array]:
        """Returns the mean return and the mean length of the episodes that ended last, each f32[M]."""
        raise NotImplementedError

    def metrics(self) -> Metrics:
        """Returns the last update's metrics, and those of the episodes; {} before the first update."""
        if not self.schedule.updates_by(self.acted):
            return {}
        return {**self.gathered("metrics"), **dict(zip(EPISODE_METRICS, self.episode_means(), strict=True))}

    def bellman_errors(self) -> np.ndarray:
        """Bellman errors of the members on transitions drawn from their buffers, f32[M, `NUM_ERRORS`].

        The learner must have `bellman_errors`, as `Delayed` has. Before the first update the result is
        f32[M, 0], because the errors of initial networks say nothing about the method.
        """
        number = len(self.members)
        if not self.schedule.updates_by(self.acted):
            return np.empty((number, 0), np.float32)
        places = map(self.place_of, range(number))
        step = np.int32(self.step)
        return np.stack([_errors(*group.members.apart, place, step) for group, place in places])

    def saving(self) -> Saving:
        """Returns the content of a checkpoint; its `write` writes the transitions since the last one.

        It writes those again of the episodes that were running then, because their returns-to-go may have
        become known. It also removes the files that no checkpoint needs any more.
        """
        rows, step, kept = {}, self.acted, self.schedule.keep_checkpoints
        saved = self._saved_at[-1]
        for index, member in enumerate(self.members):
            group, place = self.place_of(index)
            first = self._changing.get(member.name, saved)
            rows[member.name] = rows_since(group.members.buffer, first, place)
            self._changing[member.name] = first_unknown(rows[member.name], step)
        # One more than the number to keep, because the newest is written before the oldest is removed.
        # After a resumption there can be checkpoints that are not known here.
        self._saved_at = [*self._saved_at, step][-kept - 1 if kept else 0 :]
        oldest = self._saved_at[0] if 0 < kept < len(self._saved_at) else 0

        def write() -> None:
            for name, new in rows.items():
                files = self._files.of(name)
                files.append(step, new, saved)
                files.prune(oldest - self.schedule.buffer_size)

        return super().saving()._replace(write=write)

    def resume(self, items: Mapping[str, Mapping[str, Any]], progress: Progress) -> None:
        super().resume(items, progress)
        self.seconds = dict(progress.held["seconds"])
        for group in self.groups:
            group.members = group.members.replace(buffer=())  # frees the old ones before reading
            names = [self.members[index].name for index in group.indices]
            rings = [self._files.of(name).load(self.acted, self._buffer_shapes) for name in names]
            stack = jax.tree.map(lambda *fields: np.stack(fields), *rings)
            # A copy, because `device_put` may share NumPy's memory, which must not be donated.
            placed = jax.tree.map(jnp.copy, jax.device_put(stack, group.split))
            group.members = group.members.replace(buffer=placed)
        self._saved_at, self._changing = [self.acted], {}  # episodes that ran then will never end


@jax.jit
def _errors(members: MemberState, experience: Any, place: Array, step: Array) -> Array:
    """Bellman errors of one of the stacked members, on transitions drawn from its buffer."""
    member, buffer = jax.tree.map(lambda leaf: leaf[place], (members, experience[0]))
    # No update uses the key folded with -step, because updates are numbered from 0 on.
    batch = replay.sample_buffer(buffer, jax.random.fold_in(member.key, -step), NUM_ERRORS)
    return member.learner.bellman_errors(member.state, batch)
