"""What the compiled program advances, members' states in groups; and what runs inside it, their updates.

`Kind.train_member` is the program for one member. The host's side is `Population` (population.py).
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from xql_jax.data.sampling import Packed, Trajectories, sample
from xql_jax.training.checkpoints import Items, Progress, Snapshot
from xql_jax.training.members import DEVICES, Member, Ramp, ramped
from xql_jax.types import AnyBatch, Array, Json, Learner, Metrics, Minibatch, PRNGKey, State

Tree = TypeVar("Tree")
STATE = "state"  # what is checked to be finite, besides each metric
Experience = tuple[State, State]  # a member's buffer and its running episodes
# What the loop carries: the state, and of all metrics f32[m] their sums, the last ones and, bool[m],
# whether each was finite. As vectors they are computed by one kernel.
Carry = tuple[State, Array, Array, Array]
Prepared = tuple[Minibatch, PRNGKey]
Prepare = Callable[[Array], Prepared]  # for an update, by its number
Update = Callable[[Array, Prepared, Carry], Carry]
Loop = Callable[[Array, Array, Prepare, Update, Carry], Carry]  # updates start, ..., stop - 1


class Sums(NamedTuple):
    """The sums of metrics over the updates since the last row of the log, added up inside the program."""

    updates: Array  # i32[], their number
    totals: Metrics

    @classmethod
    def none(cls, metrics: Metrics) -> Self:
        return cls(jnp.int32(0), {name: jnp.zeros(of.shape, of.dtype) for name, of in metrics.items()})

    def means(self) -> Metrics:
        """Returns the means by their names in the logs; NaN if there was no update."""
        return {f"{name}_mean": total / self.updates for name, total in self.totals.items()}

    @classmethod
    def restored(cls, saved: Json, names: Collection[str]) -> Self:
        """Returns the sums that were saved; a metric that an earlier version did not have begins at 0."""
        totals = {name: jnp.float32(float(saved["totals"].get(name, 0.0))) for name in names}
        return cls(jnp.int32(saved["updates"]), totals)


class MemberState(flax.struct.PyTreeNode):
    """Everything of one member; a population stacks its members along a new leading axis of every leaf."""

    learner: Learner  # its traced hyperparameters are the leaves
    state: State  # of the learner; the last finite one if the member has diverged
    key: PRNGKey  # update t uses it folded with t
    sums: Sums  # since the last row of the log
    metrics: Metrics  # of the last update; NaN before the first
    buffer: State = ()  # its `ReplayBuffer`, if it acts
    running: State = ()  # its `Running` episodes, if its environments are in the compiled program

    @property
    def apart(self) -> tuple[Self, Experience]:
        """The member without its experience, and that, as the compiled program gets them.

        Experience is donated, so that buffers are written in place. States are kept: `Population.train`
        goes back to them.
        """
        return self.replace(buffer=(), running=()), (self.buffer, self.running)

    def joined(self, experience: Experience) -> Self:
        return self.replace(buffer=experience[0], running=experience[1])


@dataclasses.dataclass
class Group:
    """The members that one call of the program advances."""

    indices: list[int]  # of the population's members; the last may repeat, to fill all devices evenly
    split: Sharding  # of arrays with a leading axis over the group
    shared: Sharding  # of arrays that all its members share
    members: MemberState = dataclasses.field(init=False)  # stacked
    data: State = None  # what its members learn from

    @property
    def per_device(self) -> int:
        return len(self.indices) // len(self.split.device_set)


def copied_to(tree: Tree, sharding: Sharding) -> Tree:
    """Puts arrays on devices. A copy: `device_put` may share NumPy's memory, which must not be donated."""
    return jax.tree.map(jnp.copy, jax.device_put(tree, sharding))


def population_mesh(num_members: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of the fewest devices on which members finish soonest: 5 members use 3 of 4."""
    devices = devices or jax.local_devices()
    each = -(-num_members // len(devices))  # members on the fullest device
    return Mesh(np.array(devices[: -(-num_members // each)]), (DEVICES,))


def make_groups(number: int, together: bool, devices: Sequence[jax.Device] | None = None) -> list[Group]:
    """Returns one group of all members, followed by copies of the last one; or in turn a group for each."""
    mesh = population_mesh(number, devices)
    if together:
        indices = [*range(number), *[number - 1] * (-number % mesh.size)]
        split, shared = PartitionSpec(DEVICES), PartitionSpec()
        return [Group(indices, NamedSharding(mesh, split), NamedSharding(mesh, shared))]
    each = -(-number // mesh.size)
    shardings = [SingleDeviceSharding(mesh.devices[index // each]) for index in range(number)]
    return [Group([index], sharding, sharding) for index, sharding in enumerate(shardings)]


class Keys(NamedTuple):
    """A member's keys, one for each of its streams of random numbers."""

    initial: PRNGKey  # for its initial state
    updates: PRNGKey
    acting: PRNGKey
    episodes: PRNGKey


def member_keys(member: Member) -> Keys:
    return Keys(*jax.random.split(jax.random.key(member.seed), 4))


def update_keys(key: PRNGKey, step: Array) -> tuple[PRNGKey, PRNGKey]:
    """Returns the two keys of an update: one draws the minibatch, the other is passed to the learner."""
    key_batch, key_update = jax.random.split(jax.random.fold_in(key, step))
    return key_batch, key_update


def one_by_one(start: Array, stop: Array, prepare: Prepare, update: Update, carry: Carry) -> Carry:
    return jax.lax.fori_loop(start, stop, lambda step, carry: update(step, prepare(step), carry), carry)


class Kind:
    """What a population's members learn from: what it draws, and for members that act, how they act.

    The kinds are `Resident` data, and replay buffers that members fill in environments on the host
    (`acting.py`) or in the compiled program (`compiled_acting.py`).
    """

    unit = "update"  # the name of one step
    stride = 1  # `advance` goes by this number of steps or a multiple of it
    minibatch: Minibatch  # shapes of one update's
    data: State = None  # what `draw` gets, on every device
    handover = 0  # the step from which ramps are counted
    ramps: Sequence[Ramp] = ()  # hyperparameters that change with the step
    most_ahead = 50  # updates whose minibatches an accelerator draws at once; a divisor of usual intervals

    def draw(self, member: MemberState, data: State, key: PRNGKey, step: Array) -> Minibatch:
        """Returns the minibatch of a member's update `step`, inside the program."""
        raise NotImplementedError

    def train_member(
        self,
        member: MemberState,
        experience: Experience,
        data: State,
        start: Array,
        stop: Array,
        loop: Loop = one_by_one,
    ) -> tuple[MemberState, Metrics]:
        """What the program does for each member: trains it. `run_program` puts back what does not change."""
        trained, finite = self.updates(member.joined(experience), data, start, stop, loop)
        return trained.replace(learner=(), key=()), finite

    def updates(
        self, member: MemberState, data: State, start: Array, stop: Array, loop: Loop
    ) -> tuple[MemberState, Metrics]:
        """Runs updates `start`, ..., `stop` - 1 of one member.

        Update t draws its minibatch and learns by `fold_in(key, t)`, with the ramps' values at t. The loop is
        `one_by_one`, or an accelerator's. Returns the member; and bool[] by name: whether the metric was
        finite in all of these updates, and whether the last state is.
        """
        names = list(member.metrics)
        ramps = self.ramps if self.unit == "update" else ()  # else the host sets the learner's values

        def prepare(step: Array) -> Prepared:
            key_batch, key_update = update_keys(member.key, step)
            return self.draw(member, data, key_batch, step), key_update

        def update(step: Array, prepared: Prepared, carry: Carry) -> Carry:
            state, totals, _, finite = carry
            learner = ramped(member.learner, ramps, step)  # itself, without --ramp
            # The method's own: which class that is, `learners/registry.py` says; XQL's is in learners/xql.py.
            state, metrics = learner.update(state, *prepared)
            last = jnp.stack([metrics[name] for name in names])
            return state, totals + last, last, finite & jnp.isfinite(last)

        totals, last = (
            jnp.stack([of[name] for name in names]) for of in (member.sums.totals, member.metrics)
        )
        begun = member.state, totals, last, jnp.ones(len(names), bool)
        state, totals, last, finite = loop(start, stop, prepare, update, begun)
        number = member.sums.updates + jnp.maximum(stop - start, 0)
        sums = Sums(number, dict(zip(names, totals, strict=True)))
        metrics = dict(zip(names, last, strict=True))
        leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]
        was_finite = dict(zip(names, finite, strict=True)) | {STATE: jnp.stack(leaves).all()}
        return member.replace(state=state, sums=sums, metrics=metrics), was_finite

    # On the host:

    def begin(self, population: Any) -> None:
        """Gives new members what they need besides their states."""

    def act_and_train(self, population: Any, stop: int) -> Metrics | None:
        """Trains until step `stop`; returns metrics of episodes, or None before the first update."""
        raise NotImplementedError

    def saved(self, members: MemberState) -> dict[str, State]:
        """Returns the items of a checkpoint, arrays of some members."""
        return {"states": members.state}

    def snapshot(self, population: Any, snapshot: Snapshot) -> Snapshot:
        return snapshot

    def resume(self, population: Any, items: Items, progress: Progress) -> None:
        """Sets what `begin` gave as it was at the checkpoint."""

    def close(self) -> None:
        """Closes environments and threads, if there are any."""


class Resident(Kind):
    """Transitions on every device, shared by all members; minibatches are drawn inside the program."""

    def __init__(self, data: AnyBatch | Trajectories | Packed, batch_size: int):
        self.data, self._batch_size = data, batch_size
        draw = functools.partial(sample, batch_size=batch_size)
        self.minibatch = jax.eval_shape(draw, data, jax.random.key(0))

    def draw(self, member: MemberState, data: Any, key: PRNGKey, step: Array) -> Minibatch:
        return sample(data, key, self._batch_size)

    def act_and_train(self, population: Any, stop: int) -> Metrics | None:
        population.train(population.step, stop)
        return {}


def of_lone_member(train: Callable) -> Callable:
    """Returns `train` of one member mapped over the members of a group with only one: no axis is added."""

    def mapped(members: MemberState, experience: Experience, data: State, start: Array, stop: Array) -> Any:
        member, experience = at_place((members, experience), 0)
        trained = train(member, experience, data, start, stop)
        return jax.tree.map(lambda leaf: leaf[None], trained)

    return mapped


@jax.jit
def at_place(tree: Tree, place: int) -> Tree:
    """Returns one member's part of stacked arrays."""
    return jax.tree.map(lambda leaf: leaf[place], tree)
