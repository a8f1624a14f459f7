"""Members of a population: seeds, swept and changing hyperparameters, states and keys; groups on devices.

`Population` (population.py) trains them.
"""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Self, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from xql_jax.settings import with_values
from xql_jax.types import Array, Json, Learner, Metrics, Minibatch, Numeric, PRNGKey, State

AXIS = "members"  # the axis of members that share a program under `vmap`
DEVICES = "devices"
STATE = "state"  # what is checked to be finite, besides each metric
Tree = TypeVar("Tree")
Experience = tuple[State, State]  # a member's buffer and its running episodes
# What the loop carries: the state, and of all metrics f32[m] their sums, the last ones and, bool[m],
# whether each was finite. As vectors they are computed by one kernel.
Carry = tuple[State, Array, Array, Array]
Drawn = tuple[Minibatch, PRNGKey]  # of an update: its minibatch, and the key that the learner gets
Draw = Callable[[Array], Drawn]  # for an update, by its number
Update = Callable[[Array, Carry, Drawn | None], Carry]  # None: it draws itself
Loop = Callable[[Array, Array, Draw, Update, Carry], Carry]  # updates start, ..., stop - 1


@dataclasses.dataclass(frozen=True)
class Member:
    """One training of the population: a seed and one setting of the swept hyperparameters."""

    seed: int
    hyperparameters: Mapping[str, float]

    def __str__(self) -> str:
        settings = (f"{name}={value:g}" for name, value in self.hyperparameters.items())
        return ", ".join((f"seed {self.seed}", *settings))

    @property
    def name(self) -> str:
        """Its name in files and folders, such as seed3_beta=0.5; unique for each float32 value."""
        settings = (f"{name}={value:.9g}" for name, value in self.hyperparameters.items())
        return "_".join((f"seed{self.seed}", *settings))


@dataclasses.dataclass(frozen=True)
class Divergence:
    """When a member's metrics, state or actions were found not to be all finite."""

    # The end of the updates, offline, or of the round; of actions, the step that they were for.
    step: int
    quantity: str  # the metrics that were not finite, or "state", or "actions"
    after: int | None = None  # the step at which the member stays, where all was finite; None: just before

    def when(self, unit: str) -> str:
        if self.after is None:
            return f"at {unit} {self.step}"
        return f"between {unit}s {self.after} and {self.step}"


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A hyperparameter that changes linearly from each value to the next, and then stays constant."""

    name: str
    values: tuple[float, ...]
    steps: tuple[float, ...]  # at which they are reached, ascending from 0
    text: str = dataclasses.field(default="", compare=False)  # the same for all ways to type it

    def at(self, step: int | Array) -> Numeric:
        value: Numeric = self.values[0]
        for place, (begin, end) in enumerate(itertools.pairwise(self.steps)):
            change = self.values[place + 1] - self.values[place]
            share = (step - begin) / (end - begin)
            value += change * (min(max(share, 0.0), 1.0) if isinstance(step, int) else jnp.clip(share, 0, 1))
        return value


def ramped(learner: Learner, ramps: Sequence[Ramp], step: int | Array, count: int | None = None) -> Learner:
    """Returns the learner, or `count` stacked learners, with the ramps' values at `step`."""
    if not ramps:
        return learner
    values: dict[str, Numeric] = {ramp.name: ramp.at(step) for ramp in ramps}
    if count:
        values = {name: jnp.full(count, value, jnp.float32) for name, value in values.items()}
    return with_values(learner, values)  # type: ignore[type-var]


def make_members(seeds: Sequence[int], grid: Mapping[str, Sequence[float]]) -> list[Member]:
    """Returns one member per combination of grid values and seed; seeds of a combination are adjacent."""
    combinations = itertools.product(*grid.values())
    settings = [dict(zip(grid, combination, strict=True)) for combination in combinations]
    return [Member(seed, setting) for setting in settings for seed in seeds]


def learners_of(learner: Learner, members: Sequence[Member]) -> list[Learner]:
    """Returns one learner per member, with its hyperparameters; leaves are arrays f32[]."""
    learners = (with_values(learner, member.hyperparameters) for member in members)  # type: ignore[type-var]
    return [jax.tree.map(jnp.asarray, own) for own in learners]


def stacked(trees: Sequence[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


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

    @property
    def without_constants(self) -> Self:
        """The member without what no update changes, which `Population.run` puts back."""
        return self.replace(learner=(), key=())

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


@jax.jit
def at_place(tree: Tree, place: int) -> Tree:
    """Returns one member's part of stacked arrays."""
    return jax.tree.map(lambda leaf: leaf[place], tree)
