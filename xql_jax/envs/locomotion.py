"""D4RL's halfcheetah, hopper and walker2d: robots in a vertical plane that run as fast as they can."""

import dataclasses
from collections.abc import Callable

import mujoco
import numpy as np

from xql_jax.envs.simulated import ASSETS, FOLLOWING, ActResult, MujocoRobot
from xql_jax.suites.tasks import Task


@dataclasses.dataclass(frozen=True)
class Robot:
    file: str  # in Gymnasium's assets
    is_healthy: Callable[[np.ndarray, np.ndarray], bool]  # of positions and velocities; ends the episode
    frame_skip: int = 4
    noise: float = 0.005  # scale of a start's random deviations
    normal_velocities: bool = False
    control_cost: float = 0.001  # reward units per squared unit of action
    survival_reward: float = 1.0  # of every step, including an episode's last
    max_observed_speed: float = 10.0  # observed velocities are clipped to this


def _hopper_is_healthy(qpos: np.ndarray, qvel: np.ndarray) -> bool:
    _, height, angle = qpos[:3].tolist()
    return height > 0.7 and abs(angle) < 0.2 and abs(qpos[2:]).max() < 100.0 and abs(qvel).max() < 100.0


def _walker_is_healthy(qpos: np.ndarray, qvel: np.ndarray) -> bool:
    _, height, angle = qpos[:3].tolist()
    return 0.8 < height < 2.0 and abs(angle) < 1.0


ROBOTS = {
    "halfcheetah": Robot(
        "half_cheetah.xml",
        is_healthy=lambda qpos, qvel: True,
        frame_skip=5,
        noise=0.1,
        normal_velocities=True,
        control_cost=0.1,
        survival_reward=0.0,
        max_observed_speed=np.inf,
    ),
    "hopper": Robot("hopper.xml", _hopper_is_healthy),
    "walker2d": Robot("walker2d.xml", _walker_is_healthy),
}


class Locomotion(MujocoRobot):
    """A robot that has to run forwards and, in hopper and walker2d, must not fall.

    Observations f32: positions except the forward one, then velocities, which hopper and walker2d see clipped
    to 10 m/s or rad/s. Actions in [-1, 1]. The reward of a step is the mean forward speed, + 1 if the robot
    can fall, - the cost of the action, which is not clipped here. An episode terminates when the robot has
    fallen; that step gets the + 1, too. Success is not defined.

    Source: Gym's v2 environments, which D4RL uses, in their v4 form on today's MuJoCo, bit for bit. Version 5
    differs: no + 1 for the last step, and other friction under one of walker2d's feet.
    """

    def __init__(self, task: Task, legacy_inertia: bool = False):
        self.robot = robot = ROBOTS[task.name.split("-")[0]]
        super().__init__(
            mujoco.MjSpec.from_file(str(ASSETS / robot.file)),
            frame_skip=robot.frame_skip,
            noise=robot.noise,
            normal_velocities=robot.normal_velocities,
            legacy_inertia=legacy_inertia,
            episode_limit=task.longest,
            view={**FOLLOWING, "distance": 4.0, "elevation": -15.0},
        )
        self._seconds = self.model.opt.timestep * robot.frame_skip

    def act(self, action: np.ndarray) -> ActResult:
        robot, qpos = self.robot, self.data.qpos
        before = qpos[0]
        self.advance(action)
        speed = (qpos[0] - before) / self._seconds
        reward = speed + robot.survival_reward - robot.control_cost * np.square(action).sum()
        return self.observe(), reward, not robot.is_healthy(qpos, self.data.qvel), {}

    def observe(self) -> np.ndarray:
        limit = self.robot.max_observed_speed
        velocity = np.clip(self.data.qvel, -limit, limit)
        return np.concatenate((self.data.qpos[1:], velocity), dtype=np.float32)
