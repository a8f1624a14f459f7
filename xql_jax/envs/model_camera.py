"""Pictures by the camera that a model brings along."""

import mujoco

from xql_jax.envs.camera import Camera


class ModelCamera(Camera):
    """Looks through the model's first camera; at its centre where it has none.

    A suite's own renderer must not be used beside `Camera`: each takes the other's pictures for its own, as
    it does not notice that OpenGL has turned to another's canvas.

    Args:
        model: of the simulation. Its height fields are drawn as they are now, whatever becomes of them.
        data: looked at whenever a picture is taken.
    Raises:
        UserError: if OpenGL does not work.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData):
        super().__init__(model, data)
        if model.ncam:
            self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._view.fixedcamid = 0
