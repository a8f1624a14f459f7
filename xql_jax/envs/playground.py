"""MuJoCo Playground's versions of the tasks of DM Control, simulated by MJX."""

import jax
import mujoco
import numpy as np

from xql_jax.envs.compiled import EnvState, Step
from xql_jax.envs.simulated import Camera, View
from xql_jax.errors import needing
from xql_jax.suites.tasks import Task
from xql_jax.types import Array, PRNGKey


class Playground:
    """A task such as CartpoleSwingup, as a `JaxEnvironment`; observations and rewards are Playground's own.

    Differs from DM Control: the solver does fewer iterations. And what Playground computes from the bodies'
    positions, such as the angle of a pole, belongs to the state before the last substep, see
    docs/compiled.md.
    """

    def __init__(self, task: Task):
        with needing("the simulation of Playground's tasks", "compiled"):
            from mujoco_playground import dm_control_suite  # takes five seconds or more
        name = task.name.partition(":")[2]
        overrides = {"impl": "jax"}  # "warp" is for NVIDIA alone
        self._environment = dm_control_suite.load(name, config_overrides=overrides)
        self.observation_size = int(self._environment.observation_size)
        self.action_size = int(self._environment.action_size)
        self.episode_limit = task.longest
        self.steps_per_second = 1 / self._environment.dt
        self._camera: Camera | None = None

    def reset(self, key: PRNGKey) -> tuple[EnvState, Array]:
        state = self._environment.reset(key)
        return state, state.obs

    def step(self, state: EnvState, action: Array) -> tuple[EnvState, Step]:
        """Acts once on Playground's own `state`; an episode terminates only if the simulation fails."""
        state = self._environment.step(state, action)
        return state, Step(state.obs, state.reward, state.done > 0.0)

    def render(self, state: EnvState) -> np.ndarray:
        """Returns a picture, u8[height, width, 3], through the model's first camera."""
        model = self._environment.mj_model
        if self._camera is None:
            self._data = mujoco.MjData(model)
            self._camera = Camera(model, self._data, View(through_model=True))
        seen = jax.device_get(state.data)
        for name in ("qpos", "qvel", "mocap_pos", "mocap_quat"):
            getattr(self._data, name)[:] = getattr(seen, name)
        return self._camera.picture()
