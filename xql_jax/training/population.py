"""A population: members of one method, and the compiled program that trains them.

A *member* is one training: one seed with one setting of the swept hyperparameters. Members never exchange
anything, so each can be on any device, and its numbers do not depend on the others. `updates` is what the
program does for a member. Who drives a population is a `Trainer` (trainer.py).
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.numerics.pytrees import select_leaves
from xql_jax.training import accelerator
from xql_jax.training.members import (
    AXIS,
    STATE,
    Carry,
    Divergence,
    Drawn,
    Experience,
    Group,
    Loop,
    Member,
    MemberState,
    Ramp,
    Sums,
    at_place,
    copied_to,
    learners_of,
    make_groups,
    member_keys,
    ramped,
    stacked,
    update_keys,
)
from xql_jax.training.trial import own_code, tried
from xql_jax.types import Array, Learner, Metrics, Minibatch, PRNGKey, State

LOG = logging.getLogger(__name__)
Tree = TypeVar("Tree")
# What the program does for one member, from `start` to `stop`; `updates` has the arguments and the results.
MemberProgram = Callable[[MemberState, State, Array, Array, Loop | None], tuple[MemberState, Metrics]]


@dataclasses.dataclass(frozen=True)
class Source:
    """What members learn from."""

    draw: Callable[[MemberState, State, PRNGKey, Array], Minibatch]  # of a member, `data`, a key and a step
    minibatch: Minibatch  # the shapes of what it draws
    data: State = None  # on every device, shared by all members
    ramps: Sequence[Ramp] = ()  # hyperparameters that change with the step
    by_update: bool = True  # a step is an update; else the host gives learners the values of ramps
    most_ahead: int = 50  # updates whose minibatches an accelerator draws at once; divides usual intervals


def updates(
    source: Source, member: MemberState, data: State, start: Array, stop: Array, loop: Loop | None = None
) -> tuple[MemberState, Metrics]:
    """Runs updates `start`, ..., `stop` - 1 of one member, inside the program.

    Update t draws its minibatch and learns by `fold_in(key, t)`, with the ramps' values at t. An accelerator
    has a loop of its own. Returns the member; and bool[] by name: whether the metric was finite in all of
    these updates, and whether the last state is.
    """
    names = list(member.metrics)
    ramps = source.ramps if source.by_update else ()

    def draw(step: Array) -> Drawn:
        key_batch, key_update = update_keys(member.key, step)
        return source.draw(member, data, key_batch, step), key_update

    def update(step: Array, carry: Carry, drawn: Drawn | None = None) -> Carry:
        minibatch, key = drawn or draw(step)
        state, totals, _, finite = carry
        learner = ramped(member.learner, ramps, step)  # itself, without --ramp
        # The method's own: which class that is, `learners/registry.py` says; XQL's is in learners/xql.py.
        state, metrics = learner.update(state, minibatch, key)
        last = jnp.stack([metrics[name] for name in names])
        return state, totals + last, last, finite & jnp.isfinite(last)

    totals, last = (jnp.stack([of[name] for name in names]) for of in (member.sums.totals, member.metrics))
    begun = member.state, totals, last, jnp.ones(len(names), bool)
    if loop is None:
        state, totals, last, finite = jax.lax.fori_loop(start, stop, update, begun)
    else:
        state, totals, last, finite = loop(start, stop, draw, update, begun)
    number = member.sums.updates + jnp.maximum(stop - start, 0)
    sums = Sums(number, dict(zip(names, totals, strict=True)))
    metrics = dict(zip(names, last, strict=True))
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]
    was_finite = dict(zip(names, finite, strict=True)) | {STATE: jnp.stack(leaves).all()}
    return member.replace(state=state, sums=sums, metrics=metrics), was_finite


def not_finite(finite: Mapping[str, np.ndarray]) -> str:
    """Returns the names of what was not finite; the state only if nothing else names the cause."""
    broken = [name for name, was_finite in finite.items() if not was_finite]
    return ", ".join([name for name in broken if name != STATE] or broken)


# The program's function: of stacked members, their experience, data, start and stop, as `MemberState.apart`.
Mapped = Callable[[MemberState, Experience, State, Array, Array], tuple[MemberState, Metrics]]


def of_members(training: Callable) -> Mapped:
    """Returns the `training` of one member mapped over the members of a group."""

    def mapped(
        members: MemberState, experience: Experience, data: State, start: Array, stop: Array
    ) -> tuple[MemberState, Metrics]:
        several = jax.vmap(training, in_axes=(0, None, None, None), axis_name=AXIS)
        trained, finite = several(members.joined(experience), data, start, stop)
        return trained.without_constants, finite

    return mapped


def of_lone_member(training: Callable) -> Mapped:
    """Returns the `training` of a group's only member: no axis of members is added."""

    def mapped(
        members: MemberState, experience: Experience, data: State, start: Array, stop: Array
    ) -> tuple[MemberState, Metrics]:
        trained, finite = training(at_place(members.joined(experience), 0), data, start, stop)
        return jax.tree.map(lambda leaf: leaf[None], (trained.without_constants, finite))

    return mapped


class Population:
    """Several members with their states, and the program that trains them.

    The results do not depend on how the updates are split into calls of `train`: everything random in update
    t is drawn from `fold_in(key, t)`, and one program serves every start and stop.

    On an accelerator the members of all devices run in one program under `vmap`, see `accelerator.py`. On a
    CPU they run one after the other on each device, because batched matrix products are slower there. The two
    differ in rounding alone.

    Args:
        learner: its traced fields are overridden by each member's hyperparameters.
        together: run members under `vmap`; None: on accelerators only.
        training: what the program does for a member; None: `updates`.
    """

    matmul_precision = "default"  # of the program, see `MATMUL_PRECISIONS`

    def __init__(
        self,
        learner: Learner,
        members: Sequence[Member],
        source: Source,
        together: bool | None = None,
        training: MemberProgram | None = None,
    ):
        self.learner, self.members, self.source = learner, list(members), source
        self.together = jax.default_backend() != "cpu" if together is None else together
        self.compile_seconds = 0.0
        self.diverged: dict[int, Divergence] = {}  # by the member's index; its state is frozen
        self.groups = make_groups(len(members), self.together)
        self._training = training or functools.partial(updates, source)
        self._programs: dict[Sharding, jax.stages.Compiled] = {}  # one for each device or mesh
        # Members are initialised one at a time. In jaxlib 0.10.2 a batch of QR factorisations (orthogonal
        # initialisation) waits for the thread pool that runs it, and two at once on two cores deadlock.
        fields = source.minibatch.observations, source.minibatch.actions
        example = [jnp.zeros((1, *field.shape[1:])) for field in fields]  # only the shapes matter
        init = jax.jit(lambda learner, key: learner.init(key, *example))
        learners = learners_of(learner, members)  # copies, with each member's values of --sweep
        keys = [member_keys(member) for member in self.members]
        pairs = zip(learners, keys, strict=True)
        with own_code(learner, "init"):
            states = [jax.block_until_ready(init(own, key.initial)) for own, key in pairs]
        metrics = tried(learners[0], states[0], source.minibatch, keys[0].updates)
        nan = {name: jnp.full(of.shape, jnp.nan, of.dtype) for name, of in metrics.items()}
        parts = zip(learners, states, [key.updates for key in keys], strict=True)
        begun = [MemberState(*own, Sums.none(metrics), nan) for own in parts]
        placed = {shared: jax.device_put(source.data, shared) for shared in {of.shared for of in self.groups}}
        for group in self.groups:
            group.members = jax.device_put(stacked([begun[index] for index in group.indices]), group.split)
            group.data = placed[group.shared]

    def program(self, group: Group, learners: Learner | None = None) -> jax.stages.Wrapped:
        """Returns the jitted function that trains the members of a group.

        `learners` are stacked, those that the program is to serve; None: the members'.
        """
        if self.together:
            learners = self.gathered(lambda members: members.learner) if learners is None else learners
            constants = accelerator.constant_numbers(learners, self.source.ramps)
            ahead = accelerator.most_ahead(self.source.minibatch, self.source.most_ahead, group.per_device)
            training = accelerator.in_its_form(self._training, constants, ahead)
            over_members = of_members if group.per_device > 1 else of_lone_member
            return accelerator.sharded(over_members(training), group)
        return jax.jit(of_lone_member(self._training), donate_argnums=1)

    def compile(self) -> bool:
        """Compiles the program; returns False if it is compiled already."""
        if self._programs:
            return False
        LOG.info("compiling ...")
        started = time.perf_counter()
        with settings_of_jax(self.matmul_precision), own_code(self.learner, "update"):
            for group in self.groups:
                if group.split not in self._programs:
                    arguments = *group.members.apart, group.data, np.int32(0), np.int32(0)
                    self._programs[group.split] = self.program(group).lower(*arguments).compile()
        self.compile_seconds += (seconds := time.perf_counter() - started)
        LOG.info(f"compiled in {seconds:.1f} s")
        return True

    def train(self, start: int, stop: int, steps: tuple[int, int] | None = None) -> None:
        """Trains all members that have not diverged from update `start` to `stop`.

        A member whose numbers are not all finite goes back to its state at `start`, and stays there. A choice
        between two states in every update would take a CPU about a tenth of its speed. The divergence is
        reported between two `steps`; None: between the updates.
        """
        work = [group for group in self.groups if not self._frozen(group).all()]
        before = [group.members.apart[0] for group in work]
        finite, (after, step) = self.run(work, start, stop), steps or (start, stop)
        for group, old, was_finite in zip(work, before, finite, strict=True):
            broken = ~np.stack(list(was_finite.values())).all(0)
            for place in np.flatnonzero(broken).tolist():
                quantity = not_finite({name: of[place] for name, of in was_finite.items()})
                self.diverged.setdefault(group.indices[place], Divergence(step, quantity, after))
            if (frozen := self._frozen(group)).any():
                new, experience = group.members.apart
                group.members = _select(frozen, old, new).joined(experience)

    def run(self, work: Sequence[Group], start: int, stop: int) -> list[dict[str, np.ndarray]]:
        """Runs the program for groups; returns by name whether all was finite meanwhile, bool[m]."""
        outcomes = []
        for group in work:
            members, experience = group.members.apart
            arguments = members, experience, group.data, np.int32(start), np.int32(stop)
            trained, finite = self._programs[group.split](*arguments)
            group.members = trained.replace(learner=members.learner, key=members.key)
            outcomes.append(finite)
        return jax.device_get(outcomes)

    def _frozen(self, group: Group) -> np.ndarray:
        return np.isin(group.indices, list(self.diverged))

    def interval_means(self) -> Metrics:
        """Returns the metrics' means over the updates since `begin_interval`, each f32[M]."""
        return self.gathered(lambda members: members.sums).means()

    def begin_interval(self) -> None:
        for group in self.groups:
            none = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), group.members.sums)
            group.members = group.members.replace(sums=jax.device_put(none, group.split))

    @property
    def states(self) -> State:
        return self.gathered(lambda members: members.state)

    def gathered(self, part_of: Callable[[MemberState], Tree]) -> Tree:
        """Returns a part of all members, without keys, stacked on the first device."""
        parts = [part_of(group.members) for group in self.groups]
        number = len(self.members)  # NumPy joins hundreds of them in milliseconds
        whole = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:number], *jax.device_get(parts))
        return jax.device_put(whole, jax.local_devices()[0])

    def place_of(self, index: int) -> tuple[Group, int]:
        return next((group, group.indices.index(index)) for group in self.groups if index in group.indices)

    def member(self, index: int) -> tuple[Learner, State]:
        group, place = self.place_of(index)
        return at_place((group.members.learner, group.members.state), place)

    def set_in_members(self, **fields: State) -> None:
        """Replaces fields, each stacked over all members."""
        if "learner" in fields:
            self._programs.clear()  # they may have the earlier ones' numbers as constants
        for group in self.groups:
            indices = np.array(group.indices)
            new = jax.tree.map(lambda leaf, indices=indices: leaf[indices], fields)
            group.members = group.members.replace(**copied_to(new, group.split))


_select = jax.jit(select_leaves)
