"""An open field where antmaze's robot learns to walk to given targets; its policy then makes antmaze data.

PYTHONPATH=examples xql-train-online --env_name=ant_field:AntField-v0
"""

import math

import gymnasium
import numpy as np
from antmaze_data import seen_from_ant, turned

from xql_jax.envs.ant_maze import Ant
from xql_jax.envs.mazes import Maze
from xql_jax.envs.simulated import FOLLOWING, ActResult

EPISODE_LIMIT = 300
NEAREST, FARTHEST = 2.0, 8.0  # metres from the ant to a new target
ARRIVAL = 1.0  # metres from a target, at which the next one is drawn
UPRIGHT_BONUS = 0.3
EFFORT_COST = 0.1


class AntField(Ant):
    """Antmaze's ant with targets in an open field, one after the other.

    Observations f32[29]: `seen_from_ant`. Actions [8] in [-1, 1]. The reward is the speed towards the target
    in metres per second, plus 0.3, minus 0.1 times the mean squared action. The episode terminates if the ant
    falls on its back, and is truncated after 300 steps of 0.1 s.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  (Gymnasium's, as it is)
    render_mode = "rgb_array"

    def __init__(self) -> None:
        self.target = np.zeros(2)
        super().__init__(Maze(("   ",) * 3), episode_limit=EPISODE_LIMIT, view={**FOLLOWING, "distance": 6.0})

    def start(self, seed: int | None) -> np.ndarray:
        """Starts near the origin, facing anywhere, with a first target, all from `seed`."""
        position, velocity = self.random_start()
        angle = self.np_random.uniform(-math.pi, math.pi)
        position[3:7] = turned(position[3:7], angle)
        self.set_state(position, velocity)
        self._draw_target()
        return self.observe()

    def act(self, action: np.ndarray) -> ActResult:
        """Walks for 0.1 s; see the class for the reward."""
        before = math.dist(self.data.qpos[:2], self.target)
        self.advance(action)
        after = math.dist(self.data.qpos[:2], self.target)
        speed = (before - after) * self.steps_per_second
        reward = speed + UPRIGHT_BONUS - EFFORT_COST * float(np.mean(np.square(action)))
        if after <= ARRIVAL:
            self._draw_target()
        fell = self.data.xmat[self.model.body("torso").id][8] < 0
        return self.observe(), reward, fell, {}

    def observe(self) -> np.ndarray:
        return seen_from_ant(np.concatenate((self.data.qpos, self.data.qvel)), self.target)

    def _draw_target(self) -> None:
        angle = self.np_random.uniform(-math.pi, math.pi)
        way = self.np_random.uniform(NEAREST, FARTHEST)
        self.target = self.data.qpos[:2] + way * np.array([math.cos(angle), math.sin(angle)])


gymnasium.register("AntField-v0", entry_point=f"{__name__}:AntField", max_episode_steps=EPISODE_LIMIT)
