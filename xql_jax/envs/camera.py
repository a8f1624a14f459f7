"""Pictures of a simulation, without a screen."""

import os
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from xql_jax.errors import UserError

WIDTH, HEIGHT = 640, 480

# What an environment's `reset` returns, and its `step`: the observation; reward, terminated, truncated; info.
Start = tuple[np.ndarray, dict[str, Any]]
Step = tuple[np.ndarray, float, bool, bool, dict[str, Any]]


class Camera:
    """Looks at a MuJoCo simulation; made on first use, since it needs OpenGL.

    Without a screen MuJoCo needs `MUJOCO_GL=egl` (or `osmesa`) in the environment before it is imported.

    Args:
        model: of the simulation.
        data: the simulation's state, read whenever a picture is taken.
        follow: the name of a body to follow; None for a camera that stands still.
        lookat: f64[3] in metres, where a camera that stands still looks; None for the model's centre.
        distance: in metres; None for 1.5 times the model's extent.
        azimuth, elevation: in degrees.
    Raises:
        UserError: if OpenGL does not work.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        *,
        follow: str | None = None,
        lookat: np.ndarray | None = None,
        distance: float | None = None,
        azimuth: float = 90.0,
        elevation: float = -30.0,
    ):
        self._model, self._data = model, data
        width, height = int(model.vis.global_.offwidth), int(model.vis.global_.offheight)
        try:
            self._renderer = mujoco.Renderer(model, min(HEIGHT, height), min(WIDTH, width))
        except Exception as error:  # missing drivers raise errors of many types
            raise UserError(
                f"no pictures: OpenGL does not work here (MUJOCO_GL={os.environ.get('MUJOCO_GL')!r}; without "
                f"a screen, egl or osmesa): {type(error).__name__}: {error}"
            ) from error
        self._view = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self._view)
        if follow is not None:
            self._view.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            self._view.trackbodyid = model.body(follow).id
        if lookat is not None:
            self._view.lookat[:] = lookat
        if distance is not None:
            self._view.distance = distance
        self._view.azimuth, self._view.elevation = azimuth, elevation

    def picture(self) -> np.ndarray:
        """Returns u8[height, width, 3]."""
        # Updates bodies and lights to the state after the step; nothing dynamic depends on this.
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, self._view)
        return self._renderer.render()

    def close(self) -> None:
        self._renderer.close()


class ModelCamera(Camera):
    """Looks through the model's first camera; without one, at the model's centre.

    A suite's own renderer must not be used beside `Camera`: each would return the other's pictures, because
    it does not notice that OpenGL now draws to another canvas.

    Arguments and errors are those of `Camera`. Height fields stay as they were when the camera was made.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData):
        super().__init__(model, data)
        if model.ncam:
            self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._view.fixedcamid = 0


class CameraEnvironment(gymnasium.Env):
    """Base class of environments that make their camera when the first picture is asked for.

    A subclass defines `_make_camera`. If another package simulates, `simulation` is its object, to be closed.
    """

    observation_space: spaces.Box
    action_space: spaces.Box
    simulation: Any = None
    _camera: Camera | None = None

    def render(self) -> np.ndarray:
        """Returns a picture of the state, u8[height, width, 3].

        Raises:
            UserError: if OpenGL does not work.
        """
        if self._camera is None:
            self._camera = self._make_camera()
        return self._camera.picture()

    def close(self) -> None:
        """Closes the camera and the simulation."""
        self._close_camera()
        if self.simulation is not None:
            self.simulation.close()

    def _close_camera(self) -> None:
        if self._camera:
            self._camera.close()
        self._camera = None

    def _make_camera(self) -> Camera:
        raise NotImplementedError
