"""What the members of a population learn from: the part in which kinds of training differ."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from xql_jax.data import replay
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Member
from xql_jax.training.updates import MemberState
from xql_jax.types import Array, Batch, Metrics

if TYPE_CHECKING:
    from xql_jax.training.population import Population

AXIS = "members"  # of the members that share a program under `vmap`
DEVICES = "devices"
EPISODE_METRICS = ("episode/return", "episode/length")  # means over the episodes that ended last


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first step after which a member's metrics, state or actions were found not to be all finite."""

    # Offline, the update, counted from 1 as in the logs. Online, the environment step that ends the round; if
    # actions were not finite, the step that they were for.
    step: int
    quantity: str  # the metrics that were not finite, or "state", or "actions"


@dataclasses.dataclass
class Group:
    """The members that one call of the program advances."""

    indices: list[int]  # of the population's members; the last may repeat, to fill all devices evenly
    split: Sharding  # of arrays with a leading axis over the group
    shared: Sharding  # of arrays that all its members share
    members: Any = None  # their stacked `MemberState`


class Piece(NamedTuple):
    """A call of the program: it runs `train` from `first` to `after` on the data."""

    first: int
    after: int
    data: Any = ()


class Strategy:
    """What the members of a population learn from.

    Attributes:
        unit: the name of one step.
        stride: the fewest steps that a population can advance at once.
        example: an observation and an action, f32[1, ...]; only their shapes matter.
        minibatch: shapes of one update's minibatch.
        shares_data: all members of a group get the same data from `pieces`, or each its own part [m, ...].
        buffer_sizes: of a member's replay buffer: its capacity, the lengths of an observation and an action,
            and the type of its transitions; None: there is none.
        seconds: spent so far on each kind of work.
    """

    unit, stride = "update", 1
    example: Any
    minibatch: Any
    shares_data = True
    buffer_sizes: tuple[int, int, int, Any] | None = None
    seconds: dict[str, float] = {}  # noqa: RUF012  # replaced by strategies that measure

    def open(self, population: "Population") -> None:
        """Prepares what needs the population's members; `example` and `minibatch` are known then."""

    def set_sizes(
        self, capacity: int, observation_dim: int, action_dim: int, batch_type: Any = Batch
    ) -> None:
        """Sets what follows from the sizes of a replay buffer and the type of its transitions."""
        self.buffer_sizes = capacity, observation_dim, action_dim, batch_type
        self.example = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
        # The metrics' shapes do not depend on the batch size.
        self.minibatch = replay.empty(1, observation_dim, action_dim, batch_type).data

    def episodes(self, member: Member) -> Any:
        """Returns the member's first episodes, if they are in the compiled program."""
        return ()

    def begin(self, population: "Population") -> None:
        """Called when the members' states are made or restored."""

    def pieces(self, group: Group, start: int, stop: int) -> Iterator[Piece]:
        """Divides the work from `start` to `stop` into calls of the program."""
        yield Piece(start, stop)

    def train(self, member: MemberState, data: Any, start: Array, stop: Array) -> tuple[MemberState, Metrics]:
        """Trains one member; a pure function inside the program. Returns what `updates.update` does."""
        raise NotImplementedError

    def advance(self, population: "Population", stop: int) -> None:
        """Trains the members until step `stop`, and sets the population's step."""
        population.update(population.step, stop)
        population.step = stop

    def has_learned(self, step: int) -> bool:
        """Whether there was an update until this step."""
        return step > 0

    def own_metrics(self) -> Metrics:
        """Returns metrics f32[M] that are not the learner's."""
        return {}

    def saving(self, population: "Population") -> tuple[dict[str, Any], dict[str, Any], Callable[[], None]]:
        """Returns what a checkpoint holds besides states and sums.

        Returns:
            Further items of arrays and further JSON content, each by the member's name; and a function that
            writes other files.
        """
        return {}, {}, lambda: None

    def saved_shapes(self, population: "Population") -> dict[str, Any]:
        """Returns the shapes of the further items of `saving`."""
        return {}

    def resume(self, population: "Population", items: Mapping[str, Any], progress: Progress) -> None:
        """Continues from a checkpoint's content; the members' states and sums are restored already."""

    def close(self) -> None:
        """Closes environments and threads."""


def member_keys(member: Member) -> Array:
    """Returns a member's keys [4]: for its initial state, its updates, its acting, and its episodes."""
    return jax.random.split(jax.random.key(member.seed), 4)


def population_mesh(num_members: int) -> Mesh:
    """Returns a mesh of the fewest devices on which the members finish soonest.

    On 4 devices, 7 members use all 4 (two members per device, one on the last). 5 members use only 3 (two,
    two and one), because a fourth device would not make the run finish earlier.
    """
    devices = jax.local_devices()
    each = -(-num_members // len(devices))  # members on the fullest device
    return Mesh(np.array(devices[: -(-num_members // each)]), (DEVICES,))


def make_groups(number: int, together: bool) -> list[Group]:
    """Returns one group of all members, followed by copies of the last one; or in turn a group for each."""
    mesh = population_mesh(number)
    if together:
        indices = [*range(number), *[number - 1] * (-number % mesh.size)]
        split, shared = PartitionSpec(DEVICES), PartitionSpec()
        return [Group(indices, NamedSharding(mesh, split), NamedSharding(mesh, shared))]
    each = -(-number // mesh.size)
    shardings = [SingleDeviceSharding(mesh.devices[index // each]) for index in range(number)]
    return [Group([index], sharding, sharding) for index, sharding in enumerate(shardings)]
