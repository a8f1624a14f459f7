"""The few types that rooms exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np

if TYPE_CHECKING:  # a loss needs these types, and no simulator's library
    from gymnasium import spaces

Array = jax.Array
Numeric = jax.Array | float
PRNGKey = jax.Array
Params = Any  # a pytree of arrays
State = Any  # a learner's own pytree
Metrics = dict[str, jax.Array]  # scalars, named `network/quantity`


class Batch(NamedTuple):
    """Transitions; the leading axis B is a minibatch, or a whole dataset.

    `masks` is 1 - terminal and multiplies the bootstrap. A time-out is not a terminal and never enters a
    target.
    """

    observations: Array  # f32[B, O]
    actions: Array  # f32[B, A], in [-1, 1]
    rewards: Array  # f32[B]
    masks: Array  # f32[B], 0 where the transition ends in a terminal state
    next_observations: Array  # f32[B, O]


class SarsaBatch(NamedTuple):
    """`Batch` and the actions that the data's own policy took next."""

    observations: Array
    actions: Array
    rewards: Array
    masks: Array
    next_observations: Array
    next_actions: Array  # f32[B, A]; where a mask is 0, anything


class Windows(NamedTuple):
    """Up to K successive transitions of one trajectory, in order; of fewer the first places are 0.

    A return-to-go is the undiscounted sum of a transition's reward and of all later ones of its trajectory.
    """

    observations: Array  # f32[B, K, O]
    actions: Array  # f32[B, K, A]
    returns_to_go: Array  # f32[B, K], reward units
    timesteps: Array  # i32[B, K], transitions of the trajectory before this one
    known: Array  # bool[B, K], false where a place is padding
    highest_return: Array  # f32[B], of all trajectories of the data: the same for every window


AnyBatch = Batch | SarsaBatch
Minibatch = AnyBatch | Windows


class Transitions(Protocol):
    """Transitions on the host, drawn by number: a dataset in memory, or mapped from files larger than it."""

    @property
    def size(self) -> int:
        """N, the number of transitions."""
        ...

    def take(self, indices: np.ndarray) -> Any:
        """Returns transitions i32[K], each below N, in that order: a minibatch of NumPy fields [K, ...].

        Where windows are learned from, those that start there.
        """
        ...


class Learner(Protocol):
    """A frozen pytree dataclass: its floats are leaves and traced, its structure static, its methods pure."""

    # What it learns from: one of `Minibatch`. A learner from `Windows` has a `context_length`, their K.
    batch_type: ClassVar[type]

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> State:
        """Returns the initial state for data of these shapes, f32[B, O] and f32[B, A]."""
        ...

    def update(self, state: State, batch: Any, key: PRNGKey) -> tuple[State, Metrics]:
        """One iteration of the algorithm, from a batch of its `batch_type`."""
        ...

    def actor(self, state: State) -> Params:
        """All of the state that acting needs."""
        ...

    def act(self, actor: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """Actions f32[B, A] for observations f32[B, O]; `deterministic` is static."""
        ...


class RememberingLearner(Learner, Protocol):
    """A learner whose policy acts by what it has seen of an episode."""

    def begin(self, actor: Params, observations: Array) -> Any:
        """Returns the memory, arrays [B, ...], of episodes that begin with observations f32[B, O]."""
        ...

    def act_remembering(
        self, actor: Params, memory: Any, observations: Array, rewards: Array
    ) -> tuple[Array, Any]:
        """Returns the deterministic actions f32[B, A] of a step, and the memory with it.

        `rewards` f32[B] are what the step before gave, in the units of the data; 0 at the first.
        """
        ...


class OnlineLearner(Learner, Protocol):
    def bellman_errors(self, state: State, batch: Batch) -> Array:
        """What the first critic lacks of consistency with the policy in each transition, f32[B]."""
        ...


class Environment(Protocol):
    """What evaluation needs of an environment: the Gymnasium interface with flat float observations.

    `info["success"]` of a step, where a task knows success, is true once the episode has met its criterion.
    """

    steps_per_second: float  # of the environment's own time
    observation_space: spaces.Box
    action_space: spaces.Box

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]: ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]: ...

    def render(self) -> np.ndarray:
        """Returns a picture of the state, u8[height, width, 3]."""
        ...

    def close(self) -> None: ...
