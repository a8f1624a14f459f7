"""Types and protocols that the subpackages share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np

if TYPE_CHECKING:  # losses import this module, and need no simulator library
    from gymnasium import spaces

Array = jax.Array
Numeric = jax.Array | float
PRNGKey = jax.Array
PyTree = Any  # arrays in containers
Params = PyTree  # of a network, or what acting needs of a learner's state
State = PyTree  # a learner's own
Metrics = dict[str, jax.Array]  # scalars, named `network/quantity`
Json = dict[str, Any]  # the content of a JSON object
Info = dict[str, Any]  # Gymnasium's `info`: further facts of a step


class Batch(NamedTuple):
    """Transitions; the leading axis B runs over a minibatch or a whole dataset.

    `masks` is 1 - terminal and multiplies the bootstrap. A time-out is not a terminal and never enters a
    target.
    """

    observations: Array  # f32[B, O]
    actions: Array  # f32[B, A], in [-1, 1] where a learner sees them, see `ActionBounds`
    rewards: Array  # f32[B]
    masks: Array  # f32[B], 0 where the transition ends in a terminal state
    next_observations: Array  # f32[B, O]


class Horizon(NamedTuple):
    """How many steps of the environment a learner's transition spans.

    A transition from s_t has the reward r_t + ... + discount^(m - 1) r_(t + m - 1), the next observation
    s_(t + m), and the mask discount^(m - 1), 0 after a terminal; so reward + discount * mask * V(s_(t + m))
    is the return of m steps. m is `steps`, or less where a trajectory ends earlier.
    """

    steps: int = 1
    # Whether its action is all actions of these steps, (a_t, ..., a_(t + m - 1)) (Li et al. 2025,
    # "Reinforcement Learning with Action Chunking"); else a_t: an n-step return, which belongs to the data's
    # policy after the first action, and is not corrected for it.
    is_chunk: bool = False

    @property
    def action_chunk(self) -> int:
        """The number of actions in a learner's action."""
        return self.steps if self.is_chunk else 1


ONE_STEP = Horizon()


class ActionBounds(NamedTuple):
    """The lowest and the highest action that an environment takes, A entries each; (): not known, or ±1.

    Whatever a user touches is in the environment's units; learners see the bounds as -1 and 1.
    """

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def of(cls, space: spaces.Box) -> ActionBounds:
        """Returns the bounds of an action space as float32, rounded inwards: no action is beyond them."""
        low, high = (np.ravel(bound).astype(np.float32) for bound in (space.low, space.high))
        inner_low = np.where(low < np.ravel(space.low), np.nextafter(low, np.float32(np.inf)), low)
        inner_high = np.where(high > np.ravel(space.high), np.nextafter(high, np.float32(-np.inf)), high)
        has_between = inner_low <= inner_high  # else an entry that is fixed at what is no float32
        low, high = np.where(has_between, (inner_low, inner_high), (low, high))
        return cls(tuple(low.tolist()), tuple(high.tolist()))

    def filled(self, action_dim: int) -> ActionBounds:
        """Returns them with ±1 for bounds that are not known."""
        return self if self.low else ActionBounds((-1.0,) * action_dim, (1.0,) * action_dim)

    def repeated(self, count: int) -> ActionBounds:
        """Returns the bounds of chunks of so many actions."""
        return ActionBounds(self.low * count, self.high * count)

    @property
    def are_unit(self) -> bool:
        return all(low == -1.0 for low in self.low) and all(high == 1.0 for high in self.high)

    def to_environment(self, actions: Any) -> Any:
        """Returns a learner's actions [..., A] in the environment's units, within the bounds."""
        if self.are_unit:
            return actions
        low, high = np.array(self, np.float32)
        return ((high + low) / 2 + (high - low) / 2 * actions).clip(low, high)

    def to_learner(self, actions: np.ndarray) -> np.ndarray:
        """Returns an environment's actions [..., A] as a learner sees them."""
        if self.are_unit:
            return actions
        low, high = np.array(self, np.float32)
        return (actions - (high + low) / 2) / np.where(high > low, (high - low) / 2, np.float32(1.0))


UNKNOWN = ActionBounds()


class SarsaBatch(NamedTuple):
    """A `Batch` with the next actions in the data."""

    observations: Array
    actions: Array
    rewards: Array
    masks: Array
    next_observations: Array
    next_actions: Array  # f32[B, A]; arbitrary where the mask is 0


class CalibratedBatch(NamedTuple):
    """A `Batch` with the discounted return from each transition on."""

    observations: Array
    actions: Array
    rewards: Array
    masks: Array
    next_observations: Array
    returns_to_go: Array  # f32[B], reward units; -inf where the episode has not ended


class ChunkBatch(NamedTuple):
    """A `Batch` whose actions are chunks of h actions, carried out one after the other; see `Horizon`."""

    observations: Array
    actions: Array  # f32[B, h * A]
    rewards: Array
    masks: Array
    next_observations: Array
    valid: Array  # f32[B, h], 0 for the actions after a terminal, which were never carried out


class EpisodeBatch(NamedTuple):
    """A `Batch` in the order of acting, from which windows of several steps can be drawn."""

    observations: Array
    actions: Array
    rewards: Array
    masks: Array
    next_observations: Array
    ends: Array  # f32[B], 1 where an episode ended, for whatever reason


class Windows(NamedTuple):
    """Windows of K successive transitions of one trajectory. A shorter window is padded with 0 at its start.

    A return-to-go is the undiscounted sum of a transition's reward and all later rewards of its trajectory.
    """

    observations: Array  # f32[B, K, O]
    actions: Array  # f32[B, K, A]
    returns_to_go: Array  # f32[B, K], reward units
    timesteps: Array  # i32[B, K], number of earlier transitions in the trajectory
    known: Array  # bool[B, K], false for padding
    highest_return: Array  # f32[B], over all trajectories of the data: the same for every window


AnyBatch = Batch | SarsaBatch | CalibratedBatch | ChunkBatch | EpisodeBatch
Minibatch = AnyBatch | Windows


class Learner(Protocol):
    """An algorithm: a frozen pytree dataclass with traced floats, static structure and pure methods."""

    # The type of its minibatches, in `Minibatch`. With `Windows`, the learner has a `context_length`, K.
    batch_type: ClassVar[type]

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> State:
        """Returns the initial state for data of these shapes, f32[B, O] and f32[B, A]."""

    def update(self, state: State, batch: Any, key: PRNGKey) -> tuple[State, Metrics]:
        """Returns the state after one iteration on a batch of its `batch_type`, and metrics."""

    def actor(self, state: State) -> Params:
        """Returns the part of the state that acting needs."""

    def act(self, actor: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """Returns actions f32[B, A] for observations f32[B, O]; `deterministic` is static."""


class Environment(Protocol):
    """The environment interface that evaluation needs: Gymnasium's, with flat float observations.

    If the task defines success, `info["success"]` is true in at least one step of an episode that succeeds.
    """

    steps_per_second: float  # of simulated time
    observation_space: spaces.Box
    action_space: spaces.Box

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, Info]: ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]: ...

    def render(self) -> np.ndarray:
        """Returns a picture of the state, u8[height, width, 3]."""

    def close(self) -> None: ...
