"""MuJoCo Playground's versions of the tasks of DM Control, simulated by MJX."""

import numpy as np

from xql_jax.envs.compiled import EnvState, Step
from xql_jax.errors import needing
from xql_jax.suites.tasks import Task
from xql_jax.types import Array, PRNGKey


class Playground:
    """A task such as CartpoleSwingup, as a `JaxEnvironment`; observations and rewards are Playground's own.

    Differs from DM Control: see docs/differences.md.
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

    def reset(self, key: PRNGKey) -> tuple[EnvState, Array]:
        state = self._environment.reset(key)
        return state, state.obs

    def step(self, state: EnvState, action: Array) -> tuple[EnvState, Step]:
        """Acts once on Playground's own `state`; an episode terminates only if the simulation fails."""
        state = self._environment.step(state, action)
        return state, Step(state.obs, state.reward, state.done > 0.0)

    def render(self, state: EnvState) -> np.ndarray:
        """Returns a picture, u8[480, 640, 3], through the model's first camera."""
        return self._environment.render(state, 480, 640, camera=0)
