"""A population: members of one method, advanced by one compiled program.

A *member* is one training: one seed with one setting of the swept hyperparameters. Members never exchange
anything, so each can be on any device, and its numbers do not depend on the others.
"""

import bisect
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from xql_jax.data.sampling import Packed, Trajectories
from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.numerics.pytrees import select_leaves
from xql_jax.rollout.acting import Act, deterministic_policy
from xql_jax.training.checkpoints import Items, Progress, Snapshot
from xql_jax.training.members import Member, Ramp, learners_of, ramped, stacked
from xql_jax.training.program import (
    STATE,
    Group,
    Kind,
    MemberState,
    Resident,
    Sums,
    at_place,
    copied_to,
    make_groups,
    member_keys,
    of_lone_member,
)
from xql_jax.training.trial import own_code, tried
from xql_jax.types import AnyBatch, Json, Learner, Metrics, State

Tree = TypeVar("Tree")
EPISODE_METRICS = ("episode/return", "episode/length")  # of members that act: means over the last episodes


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first step after which a member's metrics, state or actions were found not to be all finite."""

    # Offline, the update, counted from 1 as in the logs. Online, the environment step that ends the round; if
    # actions were not finite, the step that they were for.
    step: int
    quantity: str  # the metrics that were not finite, or "state", or "actions"


def not_finite(finite: Mapping[str, np.ndarray]) -> str:
    """Returns the names of what was not finite; the state only if nothing else names the cause."""
    broken = [name for name, was_finite in finite.items() if not was_finite]
    return ", ".join([name for name in broken if name != STATE] or broken)


class Population:
    """Several members with their states, and the program that advances them.

    The loop calls `advance`, that the kind's `act_and_train`, that `train`, and that `run_program`, which
    runs what `compile` made of `Kind.train_member`. The results do not depend on how the steps are split into
    calls: everything random in update t is drawn from `fold_in(key, t)`, and one program serves every start
    and stop.

    On an accelerator the members of all devices run in one program under `vmap`, see `accelerator.py`. On a
    CPU they run one after the other on each device, because batched matrix products are slower there. The two
    differ in rounding alone.

    Args:
        learner: its traced fields are overridden by each member's hyperparameters.
        kind: what members learn from.
        together: run members under `vmap`; None: on accelerators only.
    """

    matmul_precision = "default"  # of the program, see `MATMUL_PRECISIONS`

    def __init__(self, learner: Learner, members: Sequence[Member], kind: Kind, together: bool | None = None):
        self.learner, self.members, self.kind = learner, list(members), kind
        self.together = jax.default_backend() != "cpu" if together is None else together
        self.step = 0  # steps done so far; if `advance` failed, fewer than it was asked for
        self.compile_seconds = 0.0
        self.diverged: dict[int, Divergence] = {}  # by the member's index; its state is frozen
        self.groups = make_groups(len(members), self.together)
        self._programs: dict[Sharding, jax.stages.Compiled] = {}  # one for each device or mesh
        # Members are initialised one at a time. In jaxlib 0.10.2 a batch of QR factorisations (orthogonal
        # initialisation) waits for the thread pool that runs it, and two at once on two cores deadlock.
        fields = kind.minibatch.observations, kind.minibatch.actions
        example = [jnp.zeros((1, *field.shape[1:])) for field in fields]  # only the shapes matter
        init = jax.jit(lambda learner, key: learner.init(key, *example))
        learners, keys = learners_of(learner, members), [member_keys(member) for member in self.members]
        pairs = zip(learners, keys, strict=True)
        with own_code(learner, "init"):
            states = [jax.block_until_ready(init(own, key.initial)) for own, key in pairs]
        metrics = tried(learners[0], states[0], kind.minibatch, keys[0].updates)
        nan = {name: jnp.full(of.shape, jnp.nan, of.dtype) for name, of in metrics.items()}
        parts = zip(learners, states, [key.updates for key in keys], strict=True)
        begun = [MemberState(*own, Sums.none(metrics), nan) for own in parts]
        placed = {shared: jax.device_put(kind.data, shared) for shared in {of.shared for of in self.groups}}
        for group in self.groups:
            group.members = jax.device_put(stacked([begun[index] for index in group.indices]), group.split)
            group.data = placed[group.shared]
        kind.begin(self)

    def program(self, group: Group, learners: Learner | None = None) -> Any:
        """Returns the jitted function that maps `Kind.train_member` over the members of a group.

        `learners` are stacked, those that the program is to serve; None: the members'.
        """
        if self.together:
            from xql_jax.training import accelerator  # `--help` does without its optax

            learners = self.gathered(lambda members: members.learner) if learners is None else learners
            return accelerator.program(self.kind, group, accelerator.switched_off(learners, self.kind.ramps))
        return jax.jit(of_lone_member(self.kind.train_member), donate_argnums=1)

    def advance(self, stop: int) -> Metrics:
        """Trains until step `stop`; returns the last update's metrics, each f32[M], or {} before the first.

        Raises EnvironmentFailure if an environment fails; `step` is then the last that can be saved.
        """
        self.compile()
        of_episodes = self.kind.act_and_train(self, stop)
        self.step = stop
        return {} if of_episodes is None else self.gathered(lambda members: members.metrics) | of_episodes

    def train(self, start: int, stop: int, reported_at: int | None = None) -> None:
        """Trains all members that have not diverged from update `start` to `stop`.

        The program returns whether all numbers of a call were finite. If not, its updates are run again, by
        bisection, which costs nothing while all is well. To choose between two states in every update would
        take a CPU about a tenth of its speed.

        `reported_at` is the step reported for a divergence; None: the update after which it was found.
        """
        work = [group for group in self.groups if not self._frozen(group).all()]
        before = [group.members.apart[0] for group in work]
        finite = self.run_program(work, start, stop)
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

    def run_program(self, work: Sequence[Group], start: int, stop: int) -> list[dict[str, np.ndarray]]:
        """Runs the program for groups; returns by name whether all was finite meanwhile, bool[m]."""
        outcomes = []
        for group in work:
            members, experience = group.members.apart
            arguments = members, experience, group.data, np.int32(start), np.int32(stop)
            trained, finite = self._programs[group.split](*arguments)
            group.members = trained.replace(learner=members.learner, key=members.key)
            outcomes.append(finite)
        return jax.device_get(outcomes)

    def _find_divergence(
        self, group: Group, before: MemberState, place: int, start: int, stop: int
    ) -> tuple[MemberState, int, str]:
        """Finds a member's last finite state by bisection; numbers that stop being finite stay so.

        `before` are the group's members at update `start`; after update `stop` the one at `place` is not
        finite. Returns the group's members at that state, the update after it, and what is not finite then.
        """
        after = group.members

        def finite_after(members: MemberState, first: int, last: int) -> dict[str, np.ndarray]:
            group.members = members.joined(group.members.apart[1])
            [finite] = self.run_program([group], first, last)
            return {name: of[place] for name, of in finite.items()}

        def is_broken(step: int) -> bool:
            return not all(finite_after(before, start, step).values())

        good = start + bisect.bisect_left(range(start + 1, stop), True, key=is_broken)
        finite_after(before, start, good)
        last_finite = group.members.apart[0]
        quantity = not_finite(finite_after(last_finite, good, good + 1))
        group.members = after.joined(group.members.apart[1])
        return last_finite, good + 1, quantity

    def _frozen(self, group: Group) -> np.ndarray:
        return np.isin(group.indices, list(self.diverged))

    @property
    def is_compiled(self) -> bool:
        return bool(self._programs)

    def compile(self) -> None:
        if self.is_compiled:
            return
        started = time.perf_counter()
        with settings_of_jax(self.matmul_precision), own_code(self.learner, "update"):
            for group in self.groups:
                if group.split not in self._programs:
                    arguments = *group.members.apart, group.data, np.int32(0), np.int32(0)
                    self._programs[group.split] = self.program(group).lower(*arguments).compile()
        self.compile_seconds += time.perf_counter() - started

    def snapshot(self, progress: Progress) -> Snapshot:
        """Returns what a checkpoint of this step holds: the progress gets what the members need."""
        sums, metrics = jax.device_get(self.gathered(lambda members: (members.sums, members.metrics)))
        contents: dict[str, Json] = {}
        for index, member in enumerate(self.members):
            found = self.diverged.get(index)
            contents[member.name] = {
                "diverged": dataclasses.asdict(found) if found else None,
                "sums": jax.tree.map(lambda leaf, index=index: leaf[index].item(), sums._asdict()),
                "metrics": {name: values[index].item() for name, values in metrics.items()},
            }
        items = self.gathered(self.kind.saved)
        return self.kind.snapshot(self, Snapshot(items, dataclasses.replace(progress, members=contents)))

    def resume(self, items: Items, progress: Progress) -> None:
        """Sets all as it was at the checkpoint; Damaged if a file is that the checkpoint needs."""
        self.step = progress.step
        contents = [progress.members[member.name] for member in self.members]
        found = [content["diverged"] for content in contents]
        self.diverged = {index: Divergence(**each) for index, each in enumerate(found) if each}
        names = list(self.groups[0].members.metrics)
        sums = stacked([Sums.restored(content["sums"], names) for content in contents])
        self.set_in_members(state=items["states"], sums=sums)
        if all("metrics" in content for content in contents):  # else of an earlier version
            saved = [content["metrics"] for content in contents]  # without those of later versions
            metrics = [{name: jnp.float32(of.get(name, np.nan)) for name in names} for of in saved]
            self.set_in_members(metrics=stacked(metrics))
        self.kind.resume(self, items, progress)

    def take_over(self, other: "Population") -> None:
        """Goes on with the states of another population's members; before the first `advance`."""
        self.step, self.diverged = other.step, dict(other.diverged)
        self.compile_seconds, self.matmul_precision = other.compile_seconds, other.matmul_precision
        self.set_in_members(state=other.states)

    def interval_means(self) -> Metrics:
        """Returns the metrics' means over the updates since `begin_interval`, each f32[M]."""
        return self.gathered(lambda members: members.sums).means()

    def begin_interval(self) -> None:
        for group in self.groups:
            none = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), group.members.sums)
            group.members = group.members.replace(sums=jax.device_put(none, group.split))

    def policy(self, states: State = None, step: int | None = None, on_host: bool = False) -> Act:
        """Returns the members' deterministic policies: f32[M, K, O] to f32[M, K, A].

        Args:
            states: stacked; None: as they are now.
            step: of the states; a policy has the values that its ramps have then. None: the last one.
            on_host: act on the CPU, where no program that trains is in the way.
        """
        device = jax.local_devices(backend="cpu" if on_host else None)[0]
        since = (self.step if step is None else step) - self.kind.handover
        learners = self.gathered(lambda members: members.learner)
        learners = ramped(learners, self.kind.ramps, since, len(self.members))
        return deterministic_policy(learners, self.states if states is None else states, device)

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

    def saved_shapes(self) -> dict[str, State]:
        """Returns what one member has of each item of a checkpoint."""
        return jax.eval_shape(self.kind.saved, jax.eval_shape(at_place, self.groups[0].members, 0))


_select = jax.jit(select_leaves)


def offline_population(
    learner: Learner,
    members: Sequence[Member],
    data: AnyBatch | Trajectories,
    batch_size: int,
    ramps: Sequence[Ramp] = (),
    together: bool | None = None,
) -> Population:
    """Returns the population that learns from these data."""
    # Packed only where members share a program: a CPU would gain nothing, and lose 9% with ant's rows.
    packed = jax.default_backend() != "cpu" if together is None else together
    kind = Resident(Packed.of(data) if packed and isinstance(data, AnyBatch) else data, batch_size)
    kind.ramps = ramps
    return Population(learner, members, kind, together)
