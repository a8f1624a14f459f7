"""A population: members of one algorithm, advanced by one compiled program.

A *member* is one training: one seed with one setting of the swept hyperparameters. Members never exchange
anything, so each can be on any device, and its numbers do not depend on the others.

A subclass says what members learn from: data (`offline.py`), environments on the host (`host.py`), or
environments inside the compiled program (`compiled.py`).
"""

import dataclasses
import functools
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec, Sharding

from xql_jax.jax_settings import settings_of_jax
from xql_jax.pytrees import select_leaves
from xql_jax.rollout.acting import Act, deterministic_policy, finite_policy
from xql_jax.training.checkpoints import Progress
from xql_jax.training.groups import AXIS, DEVICES, Group, Piece, make_groups
from xql_jax.training.members import (
    Divergence,
    Member,
    learners_of,
    member_keys,
    member_shapes,
    stacked,
    unstack,
)
from xql_jax.training.updates import STATE, MemberState, Sums, run_updates
from xql_jax.types import Array, Learner, Metrics, Minibatch, PRNGKey, State


class Saving(NamedTuple):
    """The content of a checkpoint at the current step."""

    items: dict[str, dict[str, Any]]  # "states" and others: NumPy arrays by the member's name
    members: Mapping[str, Mapping[str, Any]]  # what each member needs besides its state, for JSON
    held: Mapping[str, Any] = {}  # what the population as a whole needs, for JSON
    write: Callable[[], None] = lambda: None  # writes other files; called in the checkpoints' thread


class Population:
    """Several members with their states, and the program that advances them.

    On an accelerator the members of all devices run in one program under `vmap`. On a CPU they run one after
    the other on each device, because batched matrix products are slower there.

    The results of `advance` do not depend on how the steps are split into calls: everything random in update
    t is drawn from `fold_in(key, t)`, and one program serves every start and stop. If a call ends with
    numbers that are not finite, the same updates are run again to find the member's last finite state.

    Args:
        learner: its traced fields are overridden by each member's hyperparameters.
        members: M of them.
        minibatch: shapes of one update's minibatch.
        together: run members under `vmap`; None: on accelerators only.
    """

    unit = "update"  # the name of one step
    stride = 1  # the fewest steps that can be advanced at once
    data: Any = None  # what `draw` gets, on every device
    shares_data = True  # by all members of a group; else `pieces` give each its own part [m, ...]

    def __init__(
        self, learner: Learner, members: Sequence[Member], minibatch: Any, together: bool | None = None
    ):
        self.members = list(members)
        self.together = jax.default_backend() != "cpu" if together is None else together
        self.step = 0  # steps done so far; if `advance` failed, fewer than it was asked for
        self.compile_seconds = 0.0
        self.seconds: dict[str, float] = {}  # spent so far on each kind of work, if it is measured
        self.diverged: dict[int, Divergence] = {}  # by the member's index; its state is frozen
        self.groups = make_groups(len(members), self.together)
        self._programs: dict[Sharding, Any] = {}
        self._placed: dict[Sharding, Any] = {}
        # Members are initialised one at a time. In jaxlib 0.10.2 a batch of QR factorisations (orthogonal
        # initialisation) waits for the thread pool that runs it, and two at once on two cores deadlock.
        fields = minibatch.observations, minibatch.actions
        example = [jnp.zeros((1, *field.shape[1:])) for field in fields]  # only the shapes matter
        self._init = jax.jit(lambda learner, key: learner.init(key, *example))
        begun: list[MemberState] = []
        metrics: Any = None
        for own, member in zip(learners_of(learner, members), self.members, strict=True):
            key_init, key, *_ = member_keys(member)
            state = jax.block_until_ready(self._init(own, key_init))
            metrics = metrics or jax.eval_shape(own.update, state, minibatch, key)[1]
            nan = jax.tree.map(lambda metric: jnp.full(metric.shape, jnp.nan, metric.dtype), metrics)
            begun.append(MemberState(own, state, key, Sums.none(metrics), nan))
        for group in self.groups:
            group.members = jax.device_put(stacked([begun[index] for index in group.indices]), group.split)

    def draw(self, member: MemberState, data: Any, key: PRNGKey, step: Array) -> Minibatch:
        """Returns the minibatch of a member's update `step`; pure, in the program. Subclasses define it."""
        raise NotImplementedError

    def train_member(
        self, member: MemberState, data: Any, start: Array, stop: Array
    ) -> tuple[MemberState, Metrics]:
        """Trains one member; a pure function inside the program. Returns what `run_updates` does."""
        return run_updates(member, start, stop, functools.partial(self.draw, member, data))

    def pieces(self, group: Group, start: int, stop: int) -> Iterator[Piece]:
        """Divides the work from `start` to `stop` into calls of the program."""
        if group.shared not in self._placed:
            self._placed[group.shared] = jax.device_put(self.data, group.shared)
        yield Piece(start, stop, self._placed[group.shared])

    @property
    def is_compiled(self) -> bool:
        return bool(self._programs)

    @settings_of_jax()
    def compile(self) -> None:
        """Compiles the program, once for each device or mesh."""
        if self.is_compiled:
            return
        started = time.perf_counter()
        for group in self.groups:
            if group.split not in self._programs:
                data = next(self.pieces(group, 0, 1)).data
                arguments = *group.members.apart, data, np.int32(0), np.int32(0)
                self._programs[group.split] = self.program(group).lower(*arguments).compile()
        self.compile_seconds += time.perf_counter() - started

    def advance(self, stop: int) -> Metrics:
        """Trains until step `stop`; returns the last update's metrics, each f32[M], or {} before the first.

        Raises:
            EnvironmentFailure: if an environment fails; `step` is then the last that can be saved.
        """
        self.compile()
        self.train_members(self.step, stop)
        self.step = stop
        return self.gathered("metrics")

    def train_members(self, start: int, stop: int, reported_at: int | None = None) -> None:
        """Trains all members that have not diverged from update `start` to `stop`.

        Args:
            reported_at: the step reported for a divergence; None: the update after which it was found.
        """
        work = [group for group in self.groups if not self._frozen(group).all()]
        before = [group.members.apart[0] for group in work]
        finite = self.call_program(work, start, stop)
        for group, old, was_finite in zip(work, before, finite, strict=True):
            broken = ~np.stack(list(was_finite.values())).all(0) & ~self._frozen(group)
            for place in np.flatnonzero(broken).tolist():
                if group.indices[place] not in self.diverged:
                    last_finite, step, quantity = self._find_divergence(group, old, place, start, stop)
                    self.diverged[group.indices[place]] = Divergence(reported_at or step, quantity)
                    old = _select(np.arange(len(group.indices)) == place, last_finite, old)
            if (frozen := self._frozen(group)).any():
                new, experience = group.members.apart
                group.members = _select(frozen, old, new).joined(experience)

    def interval_means(self) -> Metrics:
        """Returns the metrics' means over the updates since `begin_interval`, each f32[M]."""
        return self.gathered("sums").means()

    def begin_interval(self) -> None:
        for group in self.groups:
            none = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), group.members.sums)
            group.members = group.members.replace(sums=jax.device_put(none, group.split))

    def policy(self, on_host: bool = False, report: Callable[[int], object] | None = None) -> Act:
        """Returns the members' deterministic policies as they are now: f32[M, K, O] to f32[M, K, A].

        Args:
            on_host: act on the CPU, where no program that trains is in the way.
            report: see `finite_policy`; None: a member whose action is not finite has diverged from now on.
        """
        device = jax.local_devices(backend="cpu" if on_host else None)[0]
        policies = deterministic_policy(self.gathered("learner"), self.states, device)
        found = Divergence(self.step, "actions")
        return finite_policy(policies, report or (lambda index: self.diverged.setdefault(index, found)))

    @property
    def states(self) -> State:
        """The members' states, stacked."""
        return self.gathered("state")

    def gathered(self, name: str) -> Any:
        """Returns what all members have at `name`, without keys, stacked on the first device."""
        parts = [operator.attrgetter(name)(group.members) for group in self.groups]
        return jax.device_put(self.of_all_members(parts), jax.local_devices()[0])

    def of_all_members(self, parts: Sequence[Any]) -> Any:
        """Joins the groups' trees to one of all members, by NumPy, which takes milliseconds for hundreds."""
        whole = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(parts))
        return jax.tree.map(lambda leaf: leaf[: len(self.members)], whole)

    def place_of(self, index: int) -> tuple[Group, int]:
        """Returns a member's group, and its place there."""
        return next((group, group.indices.index(index)) for group in self.groups if index in group.indices)

    def member(self, index: int) -> tuple[Learner, State]:
        """Returns one member's learner and its state."""
        group, place = self.place_of(index)
        return _at((group.members.learner, group.members.state), place)

    def set_in_members(self, **fields: Sequence[Any]) -> None:
        """Replaces fields of the members' states, each given as a list over the members."""
        for group in self.groups:
            new = {name: stacked([of[index] for index in group.indices]) for name, of in fields.items()}
            # A copy, because `device_put` may share NumPy's memory, which must not be donated.
            placed = jax.tree.map(jnp.copy, jax.device_put(new, group.split))
            group.members = group.members.replace(**placed)

    def saved_shapes(self) -> dict[str, Any]:
        """Returns the shapes and types of a checkpoint's items."""
        one = member_shapes(self.groups[0].members.state)
        return {"states": {member.name: one for member in self.members}}

    def saving(self) -> Saving:
        """Returns the content of a checkpoint at the current step."""
        sums = unstack(self.gathered("sums"), self.members)
        members = {}
        for index, member in enumerate(self.members):
            found = self.diverged.get(index)
            members[member.name] = {
                "diverged": dataclasses.asdict(found) if found else None,
                "sums": jax.tree.map(lambda leaf: leaf.item(), sums[member.name]._asdict()),
            }
        items = {"states": unstack(self.states, self.members)}
        return Saving(items, members, {"seconds": dict(self.seconds)})

    def resume(self, items: Mapping[str, Mapping[str, Any]], progress: Progress) -> None:
        """Continues from a checkpoint's content."""
        self.step = progress.step
        held = [progress.members[member.name] for member in self.members]
        self.diverged = {
            index: Divergence(**of["diverged"]) for index, of in enumerate(held) if of["diverged"]
        }
        states = [items["states"][member.name] for member in self.members]
        self.set_in_members(state=states, sums=[Sums.restored(of["sums"]) for of in held])

    def close(self) -> None:
        """Closes environments and threads, if there are any."""

    def _frozen(self, group: Group) -> np.ndarray:
        return np.isin(group.indices, list(self.diverged))

    def program(self, group: Group) -> Any:
        """Returns the jitted function that maps `train_member` over the members of a group."""
        own = None if self.shares_data else 0

        def one(member: MemberState, experience: Any, data: Any, start: Array, stop: Array) -> Any:
            trained, finite = self.train_member(member.joined(experience), data, start, stop)
            return trained.replace(learner=(), key=()), finite

        def in_turn(members: Any, experience: Any, data: Any, start: Array, stop: Array) -> Any:
            member, experience = _at((members, experience), 0)
            trained = one(member, experience, data if own is None else _at(data, 0), start, stop)
            return jax.tree.map(lambda leaf: leaf[None], trained)

        if not self.together:
            return jax.jit(in_turn, donate_argnums=1)
        together = jax.vmap(one, in_axes=(0, 0, own, None, None), axis_name=AXIS)
        split, shared = PartitionSpec(DEVICES), PartitionSpec()
        program = jax.shard_map(
            together,
            mesh=group.split.mesh,  # type: ignore[attr-defined]
            in_specs=(split, split, shared if own is None else split, shared, shared),
            out_specs=split,
            check_vma=False,  # members never exchange anything
        )
        return jax.jit(program, donate_argnums=1)

    def call_program(self, work: Sequence[Group], start: int, stop: int) -> list[dict[str, np.ndarray]]:
        """Calls the program for groups; returns by name whether all was finite meanwhile, bool[m]."""
        outcomes: list[list[Metrics]] = [[] for _ in work]
        for pieces in zip(*(self.pieces(group, start, stop) for group in work), strict=True):
            for group, piece, finite in zip(work, pieces, outcomes, strict=True):
                numbers = np.int32(piece.first), np.int32(piece.after)
                members, experience = group.members.apart
                trained, ok = self._programs[group.split](members, experience, piece.data, *numbers)
                group.members = trained.replace(learner=members.learner, key=members.key)
                finite.append(ok)
            jax.block_until_ready([of[-2:-1] for of in outcomes])  # prepare at most one call's data ahead
        return [
            {name: np.all([each[name] for each in finite], axis=0) for name in finite[0]}
            for finite in jax.device_get(outcomes)
        ]

    def _find_divergence(
        self, group: Group, before: MemberState, place: int, start: int, stop: int
    ) -> tuple[MemberState, int, str]:
        """Finds a member's last finite state by bisection; numbers that stop being finite stay so.

        Returns the group at that state, the update after it, and what is not finite then.
        """
        after = group.members

        def run(members: MemberState, first: int, last: int) -> dict[str, np.ndarray]:
            group.members = members.joined(group.members.apart[1])
            [finite] = self.call_program([group], first, last)
            return {name: of[place] for name, of in finite.items()}

        good, bad = start, stop
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if all(run(before, start, middle).values()) else (good, middle)
        run(before, start, good)
        last_finite = group.members.apart[0]
        quantity = not_finite(run(last_finite, good, bad))
        group.members = after.joined(group.members.apart[1])
        return last_finite, bad, quantity


def not_finite(finite: Mapping[str, Any]) -> str:
    """Returns the names of what was not finite; the state only if nothing else names the cause."""
    broken = [name for name, was_finite in finite.items() if not was_finite]
    return ", ".join([name for name in broken if name != STATE] or broken)


@jax.jit
def _at(tree: Any, place: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[place], tree)


_select = jax.jit(select_leaves)
