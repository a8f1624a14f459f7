"""Rewards of D4RL's kitchen, from observations alone: how many of the goal's tasks are not done yet.

D4RL's data and its environment have different rewards. A row of the data has the number of tasks that are
done, again in each step; the environment rewards a task once, in the step that completes it. A learner that
sees both, as in fine-tuning, needs one of them for all rows, and observations tell it: they hold the goal.
The number of tasks done less the number of all tasks is the reward with which Nakamoto et al. (2023, Cal-QL)
fine-tune in this suite. An episode ends when all are done, and with this reward that is worth no less than to
stay there.
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


def minus_tasks_left(observations: Any) -> np.ndarray:
    """Returns minus the number of the goal's tasks that are not done, f32[...].

    Args:
        observations: f32[..., 60], unnormalised; the goal's positions are 0 for objects without a task.
    """
    rewards = np.zeros(observations.shape[:-1], np.float32)
    for positions in POSITIONS.values():
        now = observations[..., positions]
        goal = observations[..., np.add(positions, NUM_POSITIONS)]
        is_far = np.linalg.norm(now - goal, axis=-1) >= THRESHOLD
        rewards -= (goal != 0.0).any(-1) & is_far
    return rewards
