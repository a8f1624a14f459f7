"""D4RL's Franka kitchen and Adroit hand, from Gymnasium-Robotics' simulations on today's MuJoCo."""

import contextlib
import importlib
import io
import types
from collections.abc import Callable, Mapping

import numpy as np

from xql_jax.envs.simulated import FIRST_CAMERA, ActResult, SimulatedEnv
from xql_jax.errors import needing
from xql_jax.suites.tasks import Task


def _import_robotics(module: str) -> types.ModuleType:
    """Returns a module of `gymnasium_robotics.envs`, without the notice that its first import prints."""
    needed = needing("the simulation of Kitchen and Adroit", "simulators")
    with needed, contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module(f"gymnasium_robotics.envs.{module}")


SUBTASKS = {
    "kitchen-complete-v0": ("microwave", "kettle", "light switch", "slide cabinet"),
    "kitchen-partial-v0": ("microwave", "kettle", "light switch", "slide cabinet"),
    "kitchen-mixed-v0": ("microwave", "kettle", "bottom burner", "light switch"),
}
NOISE_RATIO = 0.1  # D4RL's: scales the amplitudes of the robot and of the objects
NUM_JOINTS = 9  # arm and gripper come first in positions and velocities
# D4RL's noise amplitudes of positions 9 to 29: knobs and burners, light switch, slide cabinet, hinge cabinet,
# microwave, kettle (position and quaternion). The robot's are in the simulator's own config.
OBJECT_NOISE = np.repeat([0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [2, 6, 3, 3, 3, 3, 1])


class Kitchen(SimulatedEnv):
    """An arm with nine velocity-controlled joints that has to do four household tasks in any order.

    Observations f32[60]: noisy positions of the 9 joints and of the objects (21), then the goal positions
    (30), which are zero except for the four tasks. Actions [9] in [-1, 1], times 2 rad/s, for 0.08 s. The
    reward is the number of tasks newly done in the step. When all are done, the episode ends with success.

    Source: D4RL's kitchen, by way of Gymnasium-Robotics' FrankaKitchen-v1, which has less noise, shifted by
    one index, and another layout of observations. Differs from D4RL: see docs/tasks.md.
    """

    def __init__(self, task: Task):
        kitchen_env = _import_robotics("franka_kitchen.kitchen_env")
        subtasks = SUBTASKS[task.name]
        self.simulation = simulation = kitchen_env.KitchenEnv(
            tasks_to_complete=list(subtasks), robot_noise_ratio=NOISE_RATIO, object_noise_ratio=0.0
        )
        self.model, self.data = simulation.model, simulation.data
        view = {"lookat": (-0.2, 0.5, 2.0), "distance": 2.4}  # over the robot's shoulder
        super().__init__(60, NUM_JOINTS, episode_limit=task.longest, steps_per_second=12.5, view=view)
        self._goal = np.zeros(30)
        for subtask in subtasks:
            self._goal[kitchen_env.OBS_ELEMENT_INDICES[subtask]] = kitchen_env.OBS_ELEMENT_GOALS[subtask]

    def start(self, seed: int | None) -> np.ndarray:
        """Starts in D4RL's only initial pose; `seed` determines all of the episode's noise."""
        return self._observation(self.simulation.reset(seed=seed)[0])

    def act(self, action: np.ndarray) -> ActResult:
        """Moves for 0.08 s towards the last *noisy* joint positions + velocity * 0.08 s, as D4RL does."""
        observation, reward, terminated, _, info = self.simulation.step(action)
        return self._observation(observation), reward, terminated, {**info, "success": terminated}

    def _observation(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Reorders [joints, velocities, objects, velocities] into D4RL's [joints, objects, goal]."""
        flat = observation["observation"]
        joints, objects = flat[:NUM_JOINTS], flat[2 * NUM_JOINTS :][: len(OBJECT_NOISE)]
        # From the simulator's own generator: another with the same seed would repeat the joints' noise here.
        noise = self.simulation.robot_env.np_random.uniform(-1.0, 1.0, len(OBJECT_NOISE))
        return np.concatenate((joints, objects + NOISE_RATIO * OBJECT_NOISE * noise, self._goal))


PEN_HEIGHT = 26  # index of the pen's z in its observations
DROPPED = 0.075  # metres: a pen below this has fallen from the hand


# From an observation: what the palm is to reach, seen from it. The pen is in the hand from the start.
REACH: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pen": lambda seen: np.zeros(3),
    "door": lambda seen: seen[35:38],
    "hammer": lambda seen: seen[33:36] - seen[36:39],
    "relocate": lambda seen: seen[30:33],
}


class Adroit(SimulatedEnv):
    """A hand of 24 joints, on an arm of up to 6, with position-controlled joints, 100 steps per second.

    Turn a pen to a given orientation in the hand (observations f32[45], actions [24]), open a door (f32[39],
    [28]), hammer a nail into a board (f32[46], [26]), or carry a ball to a given place (f32[39], [30]).
    Actions in [-1, 1] span the joints' ranges. A dropped pen terminates its episode. An episode succeeds once
    the goal was met in more than 25 steps (pen: 20), as in D4RL's `evaluate_success`.

    Source: D4RL's hand_manipulation_suite, by way of Gymnasium-Robotics' AdroitHand*-v1. Differs from the
    latter: the distance of the palm from the object is a cost, and a dropped pen ends the episode.
    """

    def __init__(self, task: Task):
        robot = task.name.split("-")[0]  # the versions differ only in their data
        module = _import_robotics(f"adroit_hand.adroit_{robot}")
        self.simulation = simulation = getattr(module, f"AdroitHand{robot.capitalize()}Env")()
        self.model, self.data = simulation.model, simulation.data
        self._reach, self._is_pen = REACH[robot], robot == "pen"
        super().__init__(episode_limit=task.longest, steps_per_second=1 / simulation.dt, view=FIRST_CAMERA)

    def start(self, seed: int | None) -> np.ndarray:
        """Draws the place of the door, hammer's board, relocate's ball and goal, or pen's orientation."""
        self._goal_steps = 0
        return super().start(seed)

    def act(self, action: np.ndarray) -> ActResult:
        observation, reward, _, _, info = self.simulation.step(action)
        reward -= 0.2 * np.linalg.norm(self._reach(observation))  # from +0.1 to D4RL's -0.1
        self._goal_steps += bool(info["success"])
        dropped = self._is_pen and observation[PEN_HEIGHT] < DROPPED
        success = self._goal_steps > (20 if self._is_pen else 25)
        return observation, reward, dropped, {**info, "success": success}
