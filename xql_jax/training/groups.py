"""Groups of members: those that one call of the compiled program advances, and the devices they are on."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from xql_jax.training.members import MemberState
from xql_jax.types import State

Tree = TypeVar("Tree")
AXIS = "members"  # of the members that share a program under `vmap`
DEVICES = "devices"
Call = tuple[int, int, State]  # of the program: it trains from one step to another, on data


@dataclasses.dataclass
class Group:
    """The members that one call of the program advances."""

    indices: list[int]  # of the population's members; the last may repeat, to fill all devices evenly
    split: Sharding  # of arrays with a leading axis over the group
    shared: Sharding  # of arrays that all its members share
    members: MemberState = dataclasses.field(init=False)  # stacked

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
