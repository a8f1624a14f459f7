"""Online training in environments that are part of the compiled program."""

import dataclasses
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import replay
from xql_jax.data.replay import ReplayBuffer
from xql_jax.envs.compiled import JaxEnvironment
from xql_jax.rollout.policies import Act
from xql_jax.training import compiled_member
from xql_jax.training.checkpoints import Progress
from xql_jax.training.compiled_member import ACTIONS, Carry, Keys
from xql_jax.training.devices import AXIS
from xql_jax.training.members import Member, learners_of, member_shapes, parted, stacked
from xql_jax.training.packing import pack, packed_size, unpack
from xql_jax.training.policies import deterministic_policy, finite_policy
from xql_jax.training.replay_files import ReplayFiles, Saves, rows_since
from xql_jax.training.rounds import EPISODE_METRICS, OnlineSchedule, drawn_bellman_errors
from xql_jax.training.trainable import Divergence, Saving
from xql_jax.types import Learner, Metrics, State

LOG = logging.getLogger(__name__)
TIMES_PER_CALL = 1_024  # most times that all environments act in one call of the program
BESIDE = ".episodes"  # suffix of the name under which a checkpoint holds a member's episodes and tally


class CompiledPopulation:
    """A population whose members each act in their own compiled environments and fill their own buffers.

    A member is one seed with one setting of the swept hyperparameters. One program repeats three things: it
    acts in N environments, inserts N transitions, and does the updates that these make due. So the policy
    that acts has always seen all updates that were due. Every random draw uses the member's key folded with
    the number of the step, the update or the episode, so the results do not depend on how steps are split
    into calls. A checkpoint also holds the environments, so a resumed run equals an uninterrupted one bit for
    bit.

    On an accelerator the members run in one program under `vmap`. On a CPU they run one after the other.

    Args:
        learner: its traced fields are overridden by each member's hyperparameters. It learns from a `Batch`.
        members: M of them.
        environment: each member has `schedule.num_environments` copies of it.
        schedule: `round_steps` must be N. Restarts, exploration noise, ramps and processes are not supported.
        files: of the replay buffers; each member has its own folder in them.
        together: run all members in one program; None: yes on an accelerator, no on a CPU.
    Attributes:
        step: environment steps of each member so far.
        stride: N; training can stop only at multiples of it.
        seconds: spent so far in the program.
    """

    unit = "step"

    def __init__(
        self,
        learner: Learner,
        members: Sequence[Member],
        environment: JaxEnvironment,
        schedule: OnlineSchedule,
        files: ReplayFiles,
        together: bool | None = None,
    ):
        self.members = list(members)
        self.schedule = schedule
        self.stride = schedule.num_environments
        self.step = 0
        self.compile_seconds = 0.0
        self.restarts: dict[int, list[Divergence]] = {}  # always empty: a diverged member is frozen
        self.seconds = {"acting and learning": 0.0}
        self._environment = environment
        self._files = [files.of(member.name) for member in members]
        self._together = jax.default_backend() != "cpu" if together is None else together
        self._saves = Saves(schedule.keep_checkpoints)
        self._failures = 0
        self._program: Any = None
        self._learners = learners_of(learner, members)
        self._keys = [Keys.of(member.seed) for member in members]
        example = jnp.zeros((1, environment.observation_size)), jnp.zeros((1, environment.action_size))
        init = jax.jit(lambda learner, key: learner.init(key, *example))
        begin = jax.jit(functools.partial(compiled_member.begin, environment=environment, schedule=schedule))
        states = [
            jax.block_until_ready(init(own, keys.init))  # one by one, see `Population`
            for own, keys in zip(self._learners, self._keys, strict=True)
        ]
        begun = [begin(*of) for of in zip(self._learners, states, self._keys, strict=True)]
        # Either one stacked Carry or one per member, so that nothing is copied when members take turns.
        if self._together:
            buffers = jax.vmap(lambda _: self._empty())(jnp.arange(len(members)))
            self._carries = [Carry(stacked(states), buffers, *stacked(begun))]
        else:
            self._carries = [
                Carry(state, self._empty(), *of) for state, of in zip(states, begun, strict=True)
            ]

    def compile(self) -> None:
        """Compiles the program if it is not compiled yet."""
        if self._program is not None:
            return
        started = time.perf_counter()
        advance = functools.partial(
            compiled_member.advance,
            environment=self._environment,
            schedule=self.schedule,
            axis_name=AXIS if self._together else None,
        )
        if self._together:
            advance = jax.vmap(advance, in_axes=(0, 0, 0, None, None, None), axis_name=AXIS)
        arguments = self._arguments(0, 0)[0]
        self._program = jax.jit(advance, donate_argnums=1).lower(*arguments).compile()
        self.compile_seconds = time.perf_counter() - started

    def advance(self, stop: int) -> Metrics:
        """Acts and learns until every member's step is `stop`, a multiple of the stride.

        Returns:
            The last update's metrics, and the return and length of the last finished episodes (NaN before the
            first one), each f32[M]. Empty before the first update.
        """
        self.compile()
        started = time.perf_counter()
        while self.step < stop:
            count = min((stop - self.step) // self.stride, TIMES_PER_CALL)
            for index, arguments in enumerate(self._arguments(self.step, count)):
                self._carries[index] = self._program(*arguments)
            self.step += count * self.stride
        jax.block_until_ready(self._carries)
        self.seconds["acting and learning"] += time.perf_counter() - started
        tally = self._stacked("tally")
        if (failures := int(tally.failures.sum())) > self._failures:
            LOG.warning(
                f"{failures:,} episode(s) so far ended because their simulation gave numbers that are not "
                "finite"
            )
            self._failures = failures
        if not self.schedule.updates_by(self.step):
            return {}
        episodes = dict(zip(EPISODE_METRICS, (tally.episode_return, tally.episode_length), strict=True))
        return {**tally.metrics, **episodes}

    def interval_means(self) -> Metrics:
        """Returns the metrics' means over the updates since `begin_interval`, each [M]."""
        return self._stacked("tally").sums.means()

    def begin_interval(self) -> None:
        """Begins a new interval of `interval_means`."""
        for index in range(len(self.members)):
            tally = self._part(index, "tally")
            none = jax.tree.map(jnp.zeros_like, tally.sums)
            self._put(index, "tally", dataclasses.replace(tally, sums=none))

    @property
    def failures(self) -> int:
        """Number of episodes, over all members, that ended because their simulation failed."""
        return int(self._stacked("tally").failures.sum())

    @property
    def states(self) -> State:
        """The members' states, stacked; a member that diverged keeps its last finite state."""
        return self._stacked("state")

    @property
    def diverged(self) -> dict[int, Divergence]:
        """The divergences, by member index; a diverged member's state is frozen."""
        tally = jax.device_get(self._stacked("tally"))
        found = {}
        for index in np.flatnonzero(tally.diverged_at >= 0).tolist():
            quantities = [name for name, was in tally.broken.items() if was[index]]
            # A metric names the cause better than the state. The state is named only if no metric is broken.
            named = [name for name in quantities if name != compiled_member.STATE] or quantities
            found[index] = Divergence(int(tally.diverged_at[index]), ", ".join(named))
        return found

    def policy(self) -> Act:
        """The members' deterministic policies as they are now: f32[M, K, O] to f32[M, K, A].

        A member with an action that is not finite counts as diverged; see `finite_policy`.
        """
        return finite_policy(deterministic_policy(stacked(self._learners), self.states), self._diverge)

    def bellman_errors(self) -> np.ndarray:
        """Bellman errors of the members on transitions drawn from their buffers, f32[M, `NUM_ERRORS`].

        The learner must be an `OnlineLearner`. Before the first update the result is f32[M, 0], because the
        errors of initial networks say nothing about the method.
        """
        if not self.schedule.updates_by(self.step):
            return np.empty((len(self.members), 0), np.float32)
        step, errors = np.int32(self.step), []
        for index, keys in enumerate(self._keys):
            online: Any = self._learners[index]  # an `OnlineLearner`
            state, buffer = self._part(index, "state"), self._part(index, "buffer")
            errors.append(np.asarray(drawn_bellman_errors(online, state, buffer, keys.updates, step)))
        return np.stack(errors)

    def member(self, index: int) -> tuple[Learner, State]:
        """Returns one member's learner and state."""
        return self._learners[index], self._part(index, "state")

    def saved_shapes(self) -> dict[str, Any]:
        """Shapes and types of a checkpoint's arrays, by name: members' states and packed episodes."""
        size = packed_size(self._beside(0))
        beside = {
            member.name + BESIDE: {"bytes": jax.ShapeDtypeStruct((size,), np.uint8)}
            for member in self.members
        }
        return member_shapes(self.states, self.members) | beside

    def resume(self, states: Mapping[str, State], progress: Progress) -> None:
        """Continues from a checkpoint, bit for bit as if the run had not been interrupted."""
        self.step, self.seconds = progress.step, dict(progress.held["seconds"])
        for index, (member, files) in enumerate(zip(self.members, self._files, strict=True)):
            episodes, tally = unpack(states[member.name + BESIDE]["bytes"], self._beside(index))
            state = jax.tree.map(jnp.array, states[member.name])
            buffer = files.load(self.step, jax.eval_shape(self._empty))
            parts = {"state": state, "buffer": buffer, "episodes": episodes, "tally": tally}
            for name, part in parts.items():
                self._put(index, name, part)
        self._saves = Saves(self.schedule.keep_checkpoints, self.step)
        self._failures = self.failures

    def saving(self) -> Saving:
        """Returns a checkpoint's content: states, episodes, tallies, and transitions since the last one."""
        step = self.step
        buffers = (self._part(index, "buffer") for index in range(len(self.members)))
        rows = [rows_since(buffer, self._saves.last) for buffer in buffers]
        oldest = self._saves.add(step)

        def write() -> None:
            for files, new in zip(self._files, rows, strict=True):
                files.append(step, new)
                files.prune(oldest, self.schedule.buffer_size)

        beside = {
            member.name + BESIDE: {"bytes": pack(self._beside(index))}
            for index, member in enumerate(self.members)
        }
        diverged = self.diverged
        members = {
            member.name: {"diverged": dataclasses.asdict(diverged[i]) if i in diverged else None}
            for i, member in enumerate(self.members)
        }
        states = parted(self.states, self.members) | beside
        return Saving(states, members, {"seconds": dict(self.seconds)}, write)

    def close(self) -> None:
        """Does nothing; a compiled population has nothing to close."""

    def _empty(self) -> ReplayBuffer:
        sizes = self._environment.observation_size, self._environment.action_size
        return replay.empty(self.schedule.buffer_size, *sizes)

    def _arguments(self, start: int, count: int) -> list[tuple[Any, ...]]:
        """The program's arguments for acting `count` times from step `start` on, one tuple per call.

        There is one call if the members share the program, else one per member.
        """
        times = start + self.stride * np.arange(TIMES_PER_CALL + 1)
        # Counted on the host, in 64 bits; the program, with 32-bit floats, would miscount from 2^24 steps on.
        updates = np.array([self.schedule.updates_by(int(step)) for step in times[: count + 1]], np.int32)
        padded = np.pad(updates, (0, TIMES_PER_CALL + 1 - len(updates)), mode="edge")
        learners, keys = self._learners, self._keys
        if self._together:
            learners, keys = [stacked(learners)], [stacked(keys)]
        numbers = np.int32(start), np.int32(count), padded
        return [(*of, *numbers) for of in zip(learners, self._carries, keys, strict=True)]

    def _stacked(self, name: str) -> Any:
        """The field `name` of the members' `Carry`, stacked."""
        if self._together:
            return getattr(self._carries[0], name)
        return stacked([getattr(carry, name) for carry in self._carries])

    def _part(self, index: int, name: str) -> Any:
        """The field `name` of one member's `Carry`; copied if the members are stacked."""
        if not self._together:
            return getattr(self._carries[index], name)
        return jax.tree.map(lambda leaf: leaf[index], getattr(self._carries[0], name))

    def _put(self, index: int, name: str, part: Any) -> None:
        """Replaces the field `name` of one member's `Carry`."""
        place = 0 if self._together else index
        if self._together:
            part = _put_in_stack(getattr(self._carries[0], name), part, index)
        self._carries[place] = dataclasses.replace(self._carries[place], **{name: part})

    def _beside(self, index: int) -> tuple[Any, Any]:
        """The episodes and the tally of a member, which a checkpoint holds besides its state and buffer."""
        return self._part(index, "episodes"), self._part(index, "tally")

    def _diverge(self, index: int) -> None:
        """Marks the member as diverged because an action in an evaluation was not finite; freezes it."""
        tally = self._part(index, "tally")
        if int(tally.diverged_at) < 0:
            broken = {**tally.broken, ACTIONS: jnp.bool_(True)}
            tally = dataclasses.replace(tally, diverged_at=jnp.int32(self.step), broken=broken)
            self._put(index, "tally", tally)


@functools.partial(jax.jit, donate_argnums=0)
def _put_in_stack(stack: Any, part: Any, index: int) -> Any:
    return jax.tree.map(lambda leaves, leaf: leaves.at[index].set(leaf), stack, part)
