"""What an environment in JAX is: pure functions, see docs/compiled.md for users' own."""

from typing import Any, NamedTuple, Protocol

from xql_jax.types import Array, PRNGKey

EnvState = Any  # an environment's own pytree of arrays, always of the same shapes


class Step(NamedTuple):
    """The result of one step of one environment."""

    observation: Array  # f32[O]
    reward: Array  # f32[]
    terminal: Array  # bool[]; false at a time limit


class JaxEnvironment(Protocol):
    """One environment as pure functions; see docs/compiled.md for users' own."""

    observation_size: int  # O
    action_size: int  # A
    episode_limit: int  # steps; an attribute of the class
    steps_per_second: float  # of the environment's own time

    def reset(self, key: PRNGKey) -> tuple[EnvState, Array]:
        """Returns the start of an episode, and its observation f32[O]."""

    def step(self, state: EnvState, action: Array) -> tuple[EnvState, Step]:
        """Acts once, with f32[A] in [-1, 1]. It never starts a new episode: the caller does that."""
