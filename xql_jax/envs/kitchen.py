"""D4RL's Franka kitchen on today's MuJoCo."""

from typing import Any

import numpy as np

from xql_jax.envs.simulated import SimulatedEnv, import_robotics
from xql_jax.tasks import Task

SUBTASKS = {
    "kitchen-complete-v0": ("microwave", "kettle", "light switch", "slide cabinet"),
    "kitchen-partial-v0": ("microwave", "kettle", "light switch", "slide cabinet"),
    "kitchen-mixed-v0": ("microwave", "kettle", "bottom burner", "light switch"),
}

NOISE_RATIO = 0.1  # D4RL's: scales the amplitudes of the robot and of the objects
NUM_JOINTS = 9  # arm and gripper come first in positions and velocities
# D4RL's noise amplitudes of positions 9 to 29: knobs and burners, light switch, slide cabinet, hinge cabinet,
# microwave, kettle (position and quaternion). The metres and radians of the robot's are in the simulator's
# own config.
OBJECT_NOISE = np.repeat([0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [2, 6, 3, 3, 3, 3, 1])


class Kitchen(SimulatedEnv):
    """An arm with nine velocity-controlled joints that has to do four household tasks in any order.

    Observations f32[60]: noisy positions of the 9 joints and of the objects (21), then the goal positions
    (30), which are zero except for the four tasks. Actions [9] in [-1, 1], times 2 rad/s, for 0.08 s. The
    reward is the number of tasks newly done in the step. The episode terminates with success when all are
    done; it is truncated at `episode_limit` steps.

    Source: D4RL's kitchen, by way of Gymnasium-Robotics' FrankaKitchen-v1, which has the same bodies, tasks,
    threshold and starts. Differs from the latter: the noise is D4RL's (there, robot and objects have less,
    and the objects' amplitudes are shifted by one index), and observations have D4RL's layout. Differs from
    D4RL: tasks are judged by the true positions, not the noisy ones; the noise is at most 0.02, the threshold
    is 0.3. D4RL's dataset rewards are on another scale: the number of satisfied tasks, counted again in each
    step.
    """

    def __init__(self, task: Task):
        kitchen_env = import_robotics("franka_kitchen.kitchen_env")
        subtasks = SUBTASKS[task.name]
        self.simulation = simulation = kitchen_env.KitchenEnv(
            tasks_to_complete=list(subtasks), robot_noise_ratio=NOISE_RATIO, object_noise_ratio=0.0
        )
        self.model, self.data = simulation.model, simulation.data
        view = {"lookat": (-0.2, 0.5, 2.0), "distance": 2.4}  # over the robot's shoulder
        limit = task.episode_limit
        super().__init__(60, NUM_JOINTS, episode_limit=limit, steps_per_second=12.5, view=view)
        self._goal = np.zeros(30)
        for subtask in subtasks:
            self._goal[kitchen_env.OBS_ELEMENT_INDICES[subtask]] = kitchen_env.OBS_ELEMENT_GOALS[subtask]

    def start(self, seed: int | None) -> np.ndarray:
        """Starts in D4RL's only initial pose; `seed` determines all of the episode's noise."""
        return self._observation(self.simulation.reset(seed=seed)[0])

    def act(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        """Moves for 0.08 s towards the last *noisy* joint positions + velocity * 0.08 s, as D4RL does."""
        observation, reward, terminated, _, info = self.simulation.step(action)
        return self._observation(observation), reward, terminated, {**info, "success": terminated}

    def _observation(self, observation: dict[str, Any]) -> np.ndarray:
        """Reorders [joints, velocities, objects, velocities] into D4RL's [joints, objects, goal]."""
        flat = observation["observation"]
        joints, objects = flat[:NUM_JOINTS], flat[2 * NUM_JOINTS :][: len(OBJECT_NOISE)]
        # From the simulator's own generator: another with the same seed would repeat the joints' noise here.
        noise = self.simulation.robot_env.np_random.uniform(-1.0, 1.0, len(OBJECT_NOISE))
        return np.concatenate((joints, objects + NOISE_RATIO * OBJECT_NOISE * noise, self._goal))
