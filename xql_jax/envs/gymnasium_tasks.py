"""Gymnasium's own MuJoCo tasks, such as HalfCheetah-v5."""

from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces

from xql_jax.envs.camera import CameraEnvironment, ModelCamera, Start, Step
from xql_jax.tasks import Task


class GymnasiumTask(CameraEnvironment):
    """A MuJoCo task of Gymnasium's registry, with flat observations and actions in [-1, 1].

    Observations f32[O], Gymnasium's flattened in C order. Actions [A] in [-1, 1], clipped to that, then
    mapped affinely to the task's own bounds. Rewards and terminations are Gymnasium's. An episode is
    truncated at `episode_limit` steps, unless it terminates there.

    Args:
        name: in the registry, with its version.
        episode_limit: replaces the registry's.
    Raises:
        gymnasium.error.Error: if the registry has no such task.
    """

    def __init__(self, name: str, episode_limit: int):
        # The checker only costs time.
        self.simulation = gymnasium.make(name, max_episode_steps=episode_limit, disable_env_checker=True)
        self._robot = cast(Any, self.simulation.unwrapped)
        observed: Any = self.simulation.observation_space
        acted: Any = self.simulation.action_space
        self.observation_space = spaces.Box(-np.inf, np.inf, (int(np.prod(observed.shape)),), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, acted.shape, np.float32)
        self._action_middle = (acted.high + acted.low) / 2
        self._action_reach = (acted.high - acted.low) / 2
        self.steps_per_second = 1 / self._robot.dt

    @classmethod
    def for_task(cls, task: Task) -> "GymnasiumTask":
        """Returns the environment of a task of the suite gymnasium."""
        return cls(task.name, task.episode_limit)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        """Starts as Gymnasium does, all from `seed`."""
        observation, _ = self.simulation.reset(seed=seed)
        return _flat(observation), {}

    def step(self, action: np.ndarray) -> Step:
        """Acts for one step.

        Raises:
            ValueError: if the action's shape is not [A].
        """
        action = np.asarray(action, np.float32)
        if action.shape != self._action_middle.shape:
            raise ValueError(f"an action must be of shape {self._action_middle.shape}, not {action.shape}")
        control = self._action_middle + self._action_reach * np.minimum(np.maximum(action, -1.0), 1.0)
        observation, reward, terminated, truncated, _ = self.simulation.step(control)
        return _flat(observation), float(reward), bool(terminated), truncated and not terminated, {}

    def _make_camera(self) -> ModelCamera:
        return ModelCamera(self._robot.model, self._robot.data)


def _flat(observation: np.ndarray) -> np.ndarray:
    """Returns f32[O]."""
    return np.ravel(observation).astype(np.float32)
