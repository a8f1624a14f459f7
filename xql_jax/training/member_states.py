"""Members' states, their keys, and the groups in which they are on devices; population.py trains them."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Self, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from xql_jax.training.members import DEVICES, Member
from xql_jax.types import Array, Json, Learner, Metrics, Minibatch, PRNGKey, State

Tree = TypeVar("Tree")
STATE = "state"  # what is checked to be finite, besides each metric
Experience = tuple[State, State]  # a member's buffer and its running episodes
# What the loop carries: the state, and of all metrics f32[m] their sums, the last ones and, bool[m],
# whether each was finite. As vectors they are computed by one kernel.
Carry = tuple[State, Array, Array, Array]
Drawn = tuple[Minibatch, PRNGKey]  # of an update: its minibatch, and the key that the learner gets
Draw = Callable[[Array], Drawn]  # for an update, by its number
Update = Callable[[Array, Carry, Drawn | None], Carry]  # None: it draws itself
Loop = Callable[[Array, Array, Draw, Update, Carry], Carry]  # updates start, ..., stop - 1


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
