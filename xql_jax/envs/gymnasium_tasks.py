"""Gymnasium's own MuJoCo tasks, such as HalfCheetah-v5."""

from typing import Any, cast

import gymnasium

from xql_jax.envs.camera import ModelCamera
from xql_jax.envs.flat import FlatEnvironment
from xql_jax.tasks import Task


class GymnasiumTask(FlatEnvironment):
    """A MuJoCo task of Gymnasium's registry; spaces as `FlatEnvironment` says.

    Args:
        name: the name in the registry, with its version.
        episode_limit: replaces the registry's.
    Raises:
        gymnasium.error.Error: if the registry has no such task.
    """

    def __init__(self, name: str, episode_limit: int):
        # Without the checker, which only costs time.
        super().__init__(gymnasium.make(name, max_episode_steps=episode_limit, disable_env_checker=True))
        self._robot = cast(Any, self.simulation.unwrapped)
        self.steps_per_second = 1 / self._robot.dt

    @classmethod
    def for_task(cls, task: Task) -> "GymnasiumTask":
        """Returns the environment of a task of the suite gymnasium."""
        return cls(task.name, task.episode_limit)

    def _make_camera(self) -> ModelCamera:
        return ModelCamera(self._robot.model, self._robot.data)
