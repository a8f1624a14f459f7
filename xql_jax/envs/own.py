"""Environments that users register with Gymnasium themselves."""

import gymnasium
import numpy as np
from gymnasium import spaces

from xql_jax.envs.flat import FlatEnvironment
from xql_jax.errors import UserError
from xql_jax.tasks import Task

STEPS_PER_SECOND = 30.0  # of videos, if an environment does not state its rate


class OwnEnvironment(FlatEnvironment):
    """A registered environment with Box observations and actions; its spaces become `FlatEnvironment`'s.

    Args:
        name: its name in Gymnasium's registry.
        episode_limit: replaces the registry's.
    Raises:
        UserError: if it cannot be made, or has spaces of other kinds.
    """

    def __init__(self, name: str, episode_limit: int):
        try:
            own = gymnasium.make(name, max_episode_steps=episode_limit, disable_env_checker=True)
        except Exception as error:  # it is the user's code, and may fail in any way
            raise UserError(f"{name}: cannot be made: {type(error).__name__}: {error}") from error
        for what, space in (("observations", own.observation_space), ("actions", own.action_space)):
            if not isinstance(space, spaces.Box):
                raise UserError(f"{name}: its {what} are {space}, and must be a Box")
            if what == "actions" and not space.is_bounded():
                raise UserError(f"{name}: its actions must be bounded, and lie in {space}")
        super().__init__(own)
        self._name = name
        self.steps_per_second = float(own.metadata.get("render_fps") or STEPS_PER_SECOND)

    @classmethod
    def for_task(cls, task: Task) -> "OwnEnvironment":
        """Returns the environment of a task MODULE:NAME; a new process imports the module again."""
        return cls(task.name, task.episode_limit)

    def render(self) -> np.ndarray:
        """Returns a picture of the state, u8[height, width, 3]; UserError if the environment draws none."""
        picture = self.simulation.render() if self.simulation.render_mode == "rgb_array" else None
        if picture is None:
            raise UserError(f"{self._name}: no pictures: it was not registered with render_mode='rgb_array'")
        return np.asarray(picture)
