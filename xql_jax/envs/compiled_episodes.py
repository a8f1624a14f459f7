"""A compiled environment with Gymnasium's interface, stepped one at a time: for videos and its spaces."""

import functools
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium import spaces

from xql_jax.envs.camera import Start
from xql_jax.envs.camera import Step as Outcome
from xql_jax.envs.compiled import EnvState, compiled_environment, safe_step
from xql_jax.errors import UserError
from xql_jax.tasks import Task


class CompiledEpisodes(gymnasium.Env):
    """Episodes of the task's `JaxEnvironment`, each from `jax.random.key(seed)`, truncated at its limit."""

    def __init__(self, task: Task):
        self._name = task.name
        self._environment = environment = compiled_environment(task)
        self.steps_per_second = environment.steps_per_second
        self.observation_space = spaces.Box(-np.inf, np.inf, (environment.observation_size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (environment.action_size,), np.float32)
        self._reset, self._step = _programs(task)
        self._next_seed = 0
        self._state: EnvState = None

    @classmethod
    def for_task(cls, task: Task) -> "CompiledEpisodes":
        return cls(task)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        """Starts an episode; without a seed, the last seed plus 1 is used."""
        seed = self._next_seed if seed is None else seed
        self._next_seed = seed + 1
        self._state, self._observation = self._reset(jax.random.key(seed))
        self._length = 0
        return np.asarray(self._observation), {}

    def step(self, action: np.ndarray) -> Outcome:
        """Acts once, with f32[A]; ValueError if it is of another shape."""
        action = np.asarray(action, np.float32)
        if action.shape != self.action_space.shape:
            raise ValueError(f"an action must be of shape {self.action_space.shape}, not {action.shape}")
        action = np.clip(action, -1.0, 1.0)
        self._state, given, _ = self._step(self._state, self._observation, action)
        self._observation = given.observation
        self._length += 1
        terminated = bool(given.terminal)
        truncated = not terminated and self._length >= self._environment.episode_limit
        return np.asarray(given.observation), float(given.reward), terminated, truncated, {}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """Returns a picture of the state, u8[height, width, 3]; UserError if the environment draws none."""
        draw = getattr(self._environment, "render", None)
        if draw is None:
            raise UserError(f"{self._name}: no pictures: the environment has no method `render`")
        return np.asarray(draw(self._state))

    def close(self) -> None:
        """Does nothing: the environment belongs to the process."""


@functools.cache
def _programs(task: Task) -> tuple[Any, Any]:
    """Returns start and step, each compiled once for all episodes of the task."""
    environment = compiled_environment(task)
    return jax.jit(environment.reset), jax.jit(functools.partial(safe_step, environment))
