"""Wraps an environment made by Gymnasium: flat observations, actions in [-1, 1]."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from xql_jax.envs.camera import CameraEnvironment, Start, Step


class FlatEnvironment(CameraEnvironment):
    """A Gymnasium environment, wrapped: flat observations f32[O], and flat actions in [-1, 1].

    Observations are flattened in C order. Actions [A] are clipped to [-1, 1], then mapped affinely to the
    environment's own bounds. Rewards, terminations and `info["success"]` are its own. So are truncations,
    except in a step that also terminates.

    Args:
        simulation: an environment with observations in a Box and actions in a bounded Box.
    """

    def __init__(self, simulation: gymnasium.Env):
        observed: Any = simulation.observation_space
        acted: Any = simulation.action_space
        self.simulation = simulation
        self.observation_space = spaces.Box(-np.inf, np.inf, (int(np.prod(observed.shape)),), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (int(np.prod(acted.shape)),), np.float32)
        self._action_shape = acted.shape
        self._action_middle = (acted.high + acted.low) / 2
        self._action_reach = (acted.high - acted.low) / 2

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        """Starts as the environment does, determined by `seed`."""
        observation, _ = self.simulation.reset(seed=seed)
        return _flat(observation), {}

    def step(self, action: np.ndarray) -> Step:
        """Acts for one step.

        Raises:
            ValueError: if the action's shape is not [A].
        """
        action = np.asarray(action, np.float32)
        if action.shape != self.action_space.shape:
            raise ValueError(f"an action must be of shape {self.action_space.shape}, not {action.shape}")
        action = np.minimum(np.maximum(action, -1.0), 1.0).reshape(self._action_shape)
        control = self._action_middle + self._action_reach * action
        observation, reward, terminated, truncated, info = self.simulation.step(
            control.astype(self._action_middle.dtype, copy=False)
        )
        success = {"success": bool(info["success"])} if "success" in info else {}
        return _flat(observation), float(reward), bool(terminated), truncated and not terminated, success


def _flat(observation: np.ndarray) -> np.ndarray:
    """Returns f32[O]."""
    return np.ravel(observation).astype(np.float32)
