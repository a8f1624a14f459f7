"""The rewards of D4RL's data where they are not those of its environments: the kitchen's and the mazes'."""

import numpy as np

from xql_jax.envs.mazes import GOAL_RADIUS, maze_of
from xql_jax.suites.tasks import Task
from xql_jax.types import Array

POSITIONS = 30  # the kitchen's joints and objects; as many goal positions follow in an observation
THRESHOLD = 0.3  # from the goal, in metres and radians, below which D4RL counts a task as done
# Positions of each object; in Gymnasium-Robotics' OBS_ELEMENT_INDICES, as in D4RL's.
OBJECTS = {
    "bottom burner": (11, 12),
    "top burner": (15, 16),
    "light switch": (17, 18),
    "slide cabinet": (19,),
    "hinge cabinet": (20, 21),
    "microwave": (22,),
    "kettle": (23, 24, 25, 26, 27, 28, 29),
}


def kitchen_rewards(task: Task, observations: np.ndarray | Array) -> np.ndarray:
    """Returns how many of the goal's tasks are done, f32[...]; NaN if it is no kitchen that is observed.

    The data count a task again in each step; the environment rewards it once, in the step that completes it.
    The observations f32[..., 60] are unnormalised; the goal's positions are 0 for objects without a task.
    """
    seen = np.asarray(observations)
    if seen.shape[-1] != 2 * POSITIONS:
        return np.full(seen.shape[:-1], np.nan, np.float32)
    number = np.zeros(seen.shape[:-1], np.float32)
    for positions in OBJECTS.values():
        now, goal = seen[..., positions], seen[..., np.add(positions, POSITIONS)]
        number += (goal != 0.0).any(-1) & (np.linalg.norm(now - goal, axis=-1) < THRESHOLD)
    return number


def maze_rewards(task: Task, observations: np.ndarray | Array) -> np.ndarray:
    """Returns the reward of the position before a step, f32[...]; the environment's is of that after it.

    1 within 0.5 of the maze's goal, else 0; in `dense` tasks exp(-distance). Observations begin with the
    unnormalised position.
    """
    positions = np.asarray(observations)[..., :2]
    distances = np.linalg.norm(positions - np.array(maze_of(task.name).goal, np.float32), axis=-1)
    if "-dense" in task.name:
        return np.exp(-distances)
    return (distances <= GOAL_RADIUS).astype(np.float32)
