"""Base class of simulated environments: spaces, time limits and pictures without a screen."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from xql_jax.envs.vector import GymStep, Info, Start

WIDTH, HEIGHT = 640, 480

# What `act` returns: the observation [O], the reward, whether the state is terminal, and `info`.
ActResult = tuple[np.ndarray, float, bool, Info]


# From where pictures are taken: attributes of MuJoCo's `MjvCamera`.
View = Mapping[str, Any]
FIRST_CAMERA: View = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": 0}  # the model's own
FOLLOWING: View = {"type": mujoco.mjtCamera.mjCAMERA_TRACKING, "trackbodyid": 1}  # the robot's torso


class SimulatedEnv(gymnasium.Env):
    """Base class of environments with observations f32[O] and actions f32[A], usually in [-1, 1].

    A subclass defines `act`, and `start` unless its `simulation` starts. An episode is truncated at
    `episode_limit` steps. Pictures show its `model` and `data`; without MuJoCo it has neither.

    Args:
        sizes: O and A, if they are not the `simulation`'s.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    simulation: Any = None  # an environment of another package, to be closed

    def __init__(
        self,
        *sizes: int,
        episode_limit: int,
        steps_per_second: float,
        view: View | None = None,
    ):
        wrapped = self.simulation
        size, action_size = sizes or (*wrapped.observation_space.shape, *wrapped.action_space.shape)
        self.observation_space: spaces.Box = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space: spaces.Box = spaces.Box(-1.0, 1.0, (action_size,), np.float32)
        self.steps_per_second = steps_per_second
        self._view, self._episode_limit, self._steps = view or {}, episode_limit, 0
        self._renderer: mujoco.Renderer | None = None

    def start(self, seed: int | None) -> np.ndarray:
        """Starts an episode, determined by `seed`; returns the observation [O]."""
        return self.simulation.reset(seed=seed)[0]

    def act(self, action: np.ndarray) -> ActResult:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Start:
        super().reset(seed=seed)
        self._steps = 0
        return np.asarray(self.start(seed), np.float32), {}

    def step(self, action: np.ndarray) -> GymStep:
        observation, reward, terminated, info = self.act(np.asarray(action))
        self._steps += 1
        truncated = not terminated and self._steps >= self._episode_limit
        return np.asarray(observation, np.float32), float(reward), bool(terminated), truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        if not hasattr(self, "model"):  # an environment without MuJoCo
            raise NotImplementedError
        if self._renderer is None:  # which needs OpenGL
            size = self.model.vis.global_
            height, width = min(HEIGHT, int(size.offheight)), min(WIDTH, int(size.offwidth))
            self._renderer = mujoco.Renderer(self.model, height, width)
            self._camera = mujoco.MjvCamera()
            mujoco.mjv_defaultFreeCamera(self.model, self._camera)
            for name, value in {"elevation": -30.0, **self._view}.items():
                setattr(self._camera, name, value)
        # Updates bodies and lights to the state after the step; nothing dynamic depends on this.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        self._renderer.update_scene(self.data, self._camera)
        return self._renderer.render()

    def close(self) -> None:
        if self._renderer:
            self._renderer.close()
        self._renderer = None
        if self.simulation is not None:
            self.simulation.close()
