"""D4RL's Adroit hand on today's MuJoCo: pen, door, hammer and relocate."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from xql_jax.envs.simulated import SimulatedEnv, import_robotics
from xql_jax.tasks import Task

PEN_HEIGHT = 26  # index of the pen's z in its observations
DROPPED = 0.075  # metres: a pen below this has fallen from the hand


@dataclasses.dataclass(frozen=True)
class Robot:
    """The differences between the four tasks."""

    reach: Callable[[np.ndarray], np.ndarray]  # of an observation: from what is to be reached to the palm
    success_steps: int  # an episode succeeds once its goal was met in more steps than these
    view: dict[str, Any]  # of the camera, which sees the hand from the front


def _view(lookat: tuple[float, float, float], distance: float, azimuth: float) -> dict[str, Any]:
    return {"lookat": lookat, "distance": distance, "azimuth": azimuth}


ROBOTS = {
    # The pen is in the hand already.
    "pen": Robot(lambda o: np.zeros(3), 20, _view((-0.02, -0.2, 0.25), 0.6, -45.0)),
    "door": Robot(lambda o: o[35:38], 25, _view((-0.1, 0.0, 0.25), 1.1, 60.0)),
    "hammer": Robot(lambda o: o[33:36] - o[36:39], 25, _view((0.0, -0.15, 0.15), 1.0, 45.0)),
    "relocate": Robot(lambda o: o[30:33], 25, _view((0.0, -0.05, 0.15), 1.1, 60.0)),
}


class Adroit(SimulatedEnv):
    """A hand of 24 joints, on an arm of up to 6, with position-controlled joints, 100 steps per second.

    Turn a pen to a given orientation in the hand (observations f32[45], actions [24]), open a door (f32[39],
    [28]), hammer a nail into a board (f32[46], [26]), or carry a ball to a given place (f32[39], [30]).
    Actions in [-1, 1] span the joints' ranges. The episode is truncated at `episode_limit` steps, and pen's
    terminates when the pen is dropped. It succeeds once the goal was met in more than 25 steps (pen: 20), not
    necessarily consecutive, as in D4RL's `evaluate_success`.

    Source: D4RL's hand_manipulation_suite, by way of Gymnasium-Robotics' AdroitHand*-v1, which has the same
    bodies, starts and observations. Differs from the latter, whose rule is in brackets: the distance of the
    palm from the object is a cost (a reward in door, hammer and relocate); a dropped pen ends the episode
    (nothing does); pen has 100 steps (200).
    """

    def __init__(self, task: Task):
        robot = task.name.split("-")[0]  # the versions differ only in their data
        module = import_robotics(f"adroit_hand.adroit_{robot}")
        self.simulation = simulation = getattr(module, f"AdroitHand{robot.capitalize()}Env")()
        self.model, self.data = simulation.model, simulation.data
        self._robot = ROBOTS[robot]
        self._can_drop = robot == "pen"
        super().__init__(
            *simulation.observation_space.shape,
            *simulation.action_space.shape,
            episode_limit=task.episode_limit,
            steps_per_second=1 / simulation.dt,
            view=self._robot.view,
        )

    def start(self, seed: int | None) -> np.ndarray:
        """Starts an episode. The hand always has the same pose.

        `seed` draws what varies: the place of the door, of hammer's board, or of relocate's ball and goal, or
        the orientation that the pen is to take.
        """
        self._goal_steps = 0
        return self.simulation.reset(seed=seed)[0]

    def act(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        """Moves the joints towards these positions for 0.01 s."""
        observation, reward, _, _, info = self.simulation.step(action)
        reward -= 0.2 * np.linalg.norm(self._robot.reach(observation))  # from +0.1 to D4RL's -0.1
        self._goal_steps += bool(info["success"])
        dropped = self._can_drop and observation[PEN_HEIGHT] < DROPPED
        return observation, reward, dropped, {"success": self._goal_steps > self._robot.success_steps}
