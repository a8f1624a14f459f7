"""D4RL's halfcheetah, hopper and walker2d: robots in a vertical plane that run as fast as they can."""

import numpy as np
from gymnasium.envs.mujoco.half_cheetah_v4 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v4 import HopperEnv
from gymnasium.envs.mujoco.walker2d_v4 import Walker2dEnv

from xql_jax.envs.simulated import FOLLOWING, ActResult, SimulatedEnv
from xql_jax.suites.tasks import Task

ROBOTS = {"halfcheetah": HalfCheetahEnv, "hopper": HopperEnv, "walker2d": Walker2dEnv}


class Locomotion(SimulatedEnv):
    """A robot that has to run forwards and, in hopper and walker2d, must not fall.

    Observations f32: positions except the forward one, then velocities, which hopper and walker2d see clipped
    to 10 m/s or rad/s. Actions in [-1, 1]. The reward of a step is the mean forward speed, + 1 if the robot
    can fall, - the cost of the action, which is not clipped here. An episode terminates when the robot has
    fallen; that step gets the + 1, too. Success is not defined.

    Source: Gym's v2 environments, which D4RL uses, in their v4 form, which is Gymnasium's. Version 5 differs:
    no + 1 for the last step, and other friction under one of walker2d's feet.
    """

    def __init__(self, task: Task):
        self.simulation = simulation = ROBOTS[task.name.split("-")[0]]()
        self.model, self.data = simulation.model, simulation.data
        super().__init__(
            episode_limit=task.longest,
            steps_per_second=1 / simulation.dt,
            view={**FOLLOWING, "distance": 4.0, "elevation": -15.0},
        )

    def act(self, action: np.ndarray) -> ActResult:
        observation, reward, terminated, _, info = self.simulation.step(action)
        return observation, reward, terminated, info
