"""What simulated environments share: spaces, the count of steps, and pictures without a screen."""

import contextlib
import importlib
import io
import types
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from xql_jax.errors import needing

WIDTH, HEIGHT = 640, 480

# What an environment's `reset` returns, and its `step`: the observation; reward, terminated, truncated; info.
Start = tuple[np.ndarray, dict[str, Any]]
Step = tuple[np.ndarray, float, bool, bool, dict[str, Any]]


class SimulatedEnv(gymnasium.Env):
    """Base class of environments with observations f32[O] and actions f32[A] in [-1, 1].

    A subclass defines `start` and `act`. Pictures show its `model` and `data`, through a `Camera` with the
    options `view`.
    """

    model: Any
    data: Any
    simulation: Any = None  # of another package, to be closed

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        *,
        episode_limit: int,
        steps_per_second: float,
        view: dict[str, Any] | None = None,
    ):
        self.observation_space: spaces.Box = spaces.Box(-np.inf, np.inf, (observation_size,), np.float32)
        self.action_space: spaces.Box = spaces.Box(-1.0, 1.0, (action_size,), np.float32)
        self.steps_per_second = steps_per_second
        self.view = view or {}
        self._episode_limit = episode_limit
        self._steps = 0
        self._camera: Camera | None = None

    def start(self, seed: int | None) -> np.ndarray:
        """Starts an episode, determined by `seed`; returns the observation [O]."""
        raise NotImplementedError

    def act(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        """Acts once; returns the observation [O], the reward, whether the state is terminal, and `info`."""
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        super().reset(seed=seed)
        self._steps = 0
        return np.asarray(self.start(seed), np.float32), {}

    def step(self, action: np.ndarray) -> Step:
        """Acts once; the episode is truncated at its limit.

        Raises:
            ValueError: if the action's shape is not [A].
        """
        action = np.asarray(action)
        if action.shape != self.action_space.shape:
            raise ValueError(f"an action must be of shape {self.action_space.shape}, not {action.shape}")
        observation, reward, terminated, info = self.act(action)
        self._steps += 1
        truncated = not terminated and self._steps >= self._episode_limit
        return np.asarray(observation, np.float32), float(reward), bool(terminated), truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """Returns a picture of the state, u8[height, width, 3]."""
        if self._camera is None:
            self._camera = Camera(self.model, self.data, **self.view)
        return self._camera.picture()

    def close_camera(self) -> None:
        if self._camera:
            self._camera.close()
        self._camera = None

    def close(self) -> None:
        self.close_camera()
        if self.simulation is not None:
            self.simulation.close()


class Camera:
    """Looks at a MuJoCo simulation; made on first use, since it needs OpenGL.

    Without a screen MuJoCo needs `MUJOCO_GL=egl` (or `osmesa`) in the environment before it is imported. A
    suite's own renderer must not be used beside this: each would return the other's pictures, because it does
    not notice that OpenGL now draws to another canvas. Height fields stay as they are when it is made.

    Args:
        model, data: of the simulation; its state is read whenever a picture is taken.
        through_model: look through the model's first camera, if it has one.
        follow: the name of a body to follow; None for a camera that stands still.
        lookat: f64[3] in metres, where a camera that stands still looks; None for the model's centre.
        distance: in metres; None for 1.5 times the model's extent.
        azimuth, elevation: in degrees.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        *,
        through_model: bool = False,
        follow: str | None = None,
        lookat: Any = None,
        distance: float | None = None,
        azimuth: float = 90.0,
        elevation: float = -30.0,
    ):
        self._model, self._data = model, data
        width, height = int(model.vis.global_.offwidth), int(model.vis.global_.offheight)
        self._renderer = mujoco.Renderer(model, min(HEIGHT, height), min(WIDTH, width))
        self._view = view = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, view)
        if through_model and model.ncam:
            view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        if follow is not None:
            view.type, view.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, model.body(follow).id
        if lookat is not None:
            view.lookat[:] = lookat
        if distance is not None:
            view.distance = distance
        view.azimuth, view.elevation = azimuth, elevation

    def picture(self) -> np.ndarray:
        """Returns u8[height, width, 3]."""
        # Updates bodies and lights to the state after the step; nothing dynamic depends on this.
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, self._view)
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()


def import_robotics(module: str) -> types.ModuleType:
    """Returns a module of `gymnasium_robotics.envs`, without the notice that its first import prints.

    Raises:
        UserError: if it is not installed.
    """
    needed = needing("the simulation of Kitchen and Adroit", "simulators")
    with needed, contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module(f"gymnasium_robotics.envs.{module}")
