"""What the training loop trains: the interface of every kind of population."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from xql_jax.rollout.policies import Act
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Member
from xql_jax.types import Metrics, State


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first step after which a member's metrics, state or actions were found not to be all finite."""

    # Offline, the update, counted from 1 as in the logs. Online, the environment step that ends the round; if
    # actions were not finite, the step that they were for.
    step: int
    quantity: str  # the metrics that were not finite, or "state", or "actions"


class Saving(NamedTuple):
    """The content of a checkpoint at the current step."""

    states: dict[str, State]  # NumPy arrays, by the member's name
    members: Mapping[str, Mapping[str, Any]]  # what each member needs besides its state, for JSON
    held: Mapping[str, Any] = {}  # what the population as a whole needs, for JSON
    write: Callable[[], None] = lambda: None  # writes other files; called in the checkpoints' thread


class Trainable(Protocol):
    """A population of members, each one seed with one setting of the swept hyperparameters.

    `Population` learns from data; `OnlinePopulation` and `CompiledPopulation` act in environments;
    `FinetuningPopulation` does first the one, then the other. The results of `advance` must not depend on how
    the steps are split into calls, and a population that resumes from a checkpoint must go on as if it had
    not stopped (see `TrainingLoop` for what online training may lose).
    """

    unit: str  # the name of one step

    @property
    def members(self) -> Sequence[Member]:
        """All M of them, in the order of every axis over members."""

    @property
    def step(self) -> int:
        """The steps done so far; if `advance` failed, fewer than it was asked for."""

    @property
    def stride(self) -> int:
        """The fewest steps that it can advance at once."""

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on tracing and compiling."""

    @property
    def diverged(self) -> Mapping[int, Divergence]:
        """The divergences, by member index. Such a member's state is frozen, and others train on."""

    def compile(self) -> None:
        """Compiles the program of the next step, if it is not compiled yet."""

    def advance(self, stop: int) -> Metrics:
        """Trains until step `stop`; returns the last update's metrics, each f32[M], or {} before the first.

        Raises:
            EnvironmentFailure: if an environment fails; `step` is then the last that can be saved.
        """

    def interval_means(self) -> Metrics:
        """Returns the metrics' means over the updates since `begin_interval`, each f32[M]."""

    def begin_interval(self) -> None:
        """Begins a new interval of `interval_means`."""

    def policy(self) -> Act:
        """Returns the members' deterministic policies, f32[M, K, O] to f32[M, K, A], for now.

        They are valid until the next `advance`. A member with an action that is not finite has diverged.
        """

    def member(self, index: int) -> tuple[Any, State]:
        """Returns one member's learner and state."""

    def saved_shapes(self) -> dict[str, Any]:
        """Returns the shapes and types of a checkpoint's arrays, by name."""

    def saving(self) -> Saving:
        """Returns the content of a checkpoint at the current step."""

    def resume(self, states: Mapping[str, State], progress: Progress) -> None:
        """Continues from a checkpoint's content."""

    def close(self) -> None:
        """Closes environments and threads."""
