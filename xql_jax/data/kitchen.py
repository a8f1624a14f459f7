"""The reward that a row of D4RL's kitchen data has: how many of the goal's tasks are done.

D4RL's data and its environment have different rewards. The data count a task again in each step; the
environment rewards it once, in the step that completes it. A learner that sees both, as in fine-tuning, needs
one reward for all rows. Observations, which hold the goal, tell that of the data.
"""

from typing import Any

import numpy as np

NUM_POSITIONS = 30  # of joints and objects; as many goal positions follow in an observation
THRESHOLD = 0.3  # distance from the goal, in metres and radians, below which D4RL counts a task as done
# Positions of each object; in Gymnasium-Robotics' OBS_ELEMENT_INDICES, as in D4RL's.
POSITIONS = {
    "bottom burner": (11, 12),
    "top burner": (15, 16),
    "light switch": (17, 18),
    "slide cabinet": (19,),
    "hinge cabinet": (20, 21),
    "microwave": (22,),
    "kettle": (23, 24, 25, 26, 27, 28, 29),
}


def tasks_done(observations: Any) -> np.ndarray:
    """Returns the number of the goal's tasks that are done, f32[...].

    Args:
        observations: f32[..., 60], unnormalised; the goal's positions are 0 for objects without a task.
    """
    number = np.zeros(observations.shape[:-1], np.float32)
    for positions in POSITIONS.values():
        now = observations[..., positions]
        goal = observations[..., np.add(positions, NUM_POSITIONS)]
        number += (goal != 0.0).any(-1) & (np.linalg.norm(now - goal, axis=-1) < THRESHOLD)
    return number
