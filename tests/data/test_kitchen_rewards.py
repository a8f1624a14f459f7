"""Rewards that the kitchen's data and its environment share: against the real file and the simulator."""

import h5py
import numpy as np
import pytest

from xql_jax.data.kitchen import NUM_POSITIONS, POSITIONS, THRESHOLD, minus_tasks_left
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.tasks import get_task
from xql_jax.types import Batch

GOAL = {11: -0.88, 12: -0.01, 22: -0.75}  # of a burner and the microwave, in D4RL's numbers


def seen(**positions):
    """An observation in which all is 0 but the goal and the given positions."""
    observation = np.zeros(2 * NUM_POSITIONS, np.float32)
    for place, value in GOAL.items():
        observation[NUM_POSITIONS + place] = value
    for place, value in positions.items():
        observation[int(place.removeprefix("at"))] = value
    return observation


@pytest.mark.parametrize(
    ("positions", "reward"),
    [
        ({}, -2.0),
        ({"at11": -0.88}, -1.0),  # 0.01 from the burner's goal
        ({"at22": -0.46}, -1.0),  # 0.29 from the microwave's
        ({"at22": -0.44}, -2.0),  # 0.31
        ({"at11": -0.63, "at12": -0.18}, -2.0),  # 0.25 and 0.17: each is near, both together are not
        ({"at11": -0.88, "at22": -0.75}, 0.0),
        ({"at11": -0.88, "at22": -0.75, "at19": 0.37}, 0.0),  # no task of this goal
    ],
)
def test_tasks_left_by_hand(positions, reward):
    observation = seen(**positions)
    assert minus_tasks_left(observation) == reward
    batch = minus_tasks_left(np.stack([observation, seen()])[None])
    np.testing.assert_array_equal(batch, [[reward, -2.0]])
    assert batch.dtype == np.float32


def test_learners_see_them_in_place_of_the_given_rewards():
    """Whatever else is done: the observations are read before they are normalised."""
    rows = np.stack([seen(), seen(at22=-0.75)])
    batch = Batch(rows, rows[:, :9], np.float32([7.0, 7.0]), np.ones(2, np.float32), rows)
    normalising = Preprocessing(observation_mean=(3.0,) * 60, observation_std=(2.0,) * 60)
    for others in (Preprocessing(), normalising):
        counting = Preprocessing(**{**vars(others), "counts_kitchen_tasks": True})
        np.testing.assert_array_equal(counting.batch(batch).rewards, [-2.0, -1.0])
        np.testing.assert_array_equal(others.batch(batch).rewards, [7.0, 7.0])


def test_they_are_the_real_files_rewards_less_four(kitchen_file):
    with h5py.File(kitchen_file) as file:
        observations, rewards = file["observations"][()], file["rewards"][()]
    np.testing.assert_array_equal(minus_tasks_left(observations), rewards - 4.0)


def test_the_simulator_agrees():
    """Its objects are put at some tasks' goals. What it then rewards once is what is no longer left."""
    kitchen_env = pytest.importorskip("gymnasium_robotics.envs.franka_kitchen.kitchen_env")
    from xql_jax.envs.kitchen import Kitchen

    assert {name: tuple(places) for name, places in kitchen_env.OBS_ELEMENT_INDICES.items()} == POSITIONS
    assert kitchen_env.BONUS_THRESH == THRESHOLD
    env = Kitchen.for_task(get_task("kitchen-complete-v0"))
    before, _ = env.reset(seed=0)
    assert minus_tasks_left(before) == -4.0
    for name in ("microwave", "slide cabinet"):
        env.simulation.data.qpos[list(POSITIONS[name])] = kitchen_env.OBS_ELEMENT_GOALS[name]
    after, reward, *_ = env.step(np.zeros(9, np.float32))
    assert reward == 2.0
    assert minus_tasks_left(after) == -2.0
    again, reward, *_ = env.step(np.zeros(9, np.float32))
    env.close()
    assert reward == 0.0  # it rewards a task once
    assert minus_tasks_left(again) == -2.0
