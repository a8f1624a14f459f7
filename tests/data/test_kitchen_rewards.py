"""The reward of D4RL's kitchen data from observations: against the real file and the simulator."""

import h5py
import numpy as np
import pytest

from xql_jax.data.dataset import Dataset
from xql_jax.data.kitchen import NUM_POSITIONS, POSITIONS, THRESHOLD, tasks_done
from xql_jax.data.preprocessing import Preprocessing, fit_preprocessing
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
        ({}, 0.0),
        ({"at11": -0.88}, 1.0),  # 0.01 from the burner's goal
        ({"at22": -0.46}, 1.0),  # 0.29 from the microwave's
        ({"at22": -0.44}, 0.0),  # 0.31
        ({"at11": -0.63, "at12": -0.18}, 0.0),  # 0.25 and 0.17: each is near, both together are not
        ({"at11": -0.88, "at22": -0.75}, 2.0),
        ({"at11": -0.88, "at22": -0.75, "at19": 0.37}, 2.0),  # no task of this goal
    ],
)
def test_tasks_done_by_hand(positions, reward):
    observation = seen(**positions)
    assert tasks_done(observation) == reward
    batch = tasks_done(np.stack([observation, seen()])[None])
    np.testing.assert_array_equal(batch, [[reward, 0.0]])
    assert batch.dtype == np.float32


def test_learners_see_them_online_in_place_of_the_environments():
    """Observations are read before they are normalised. The data stay as they are."""
    rows = np.stack([seen(), seen(at22=-0.75)])
    batch = Batch(rows, rows[:, :9], np.float32([7.0, 7.0]), np.float32([1.0, 0.0]), rows)
    normalising = Preprocessing(observation_mean=(3.0,) * 60, observation_std=(2.0,) * 60)
    for others in (Preprocessing(), normalising):
        counting = Preprocessing(**{**vars(others), "counts_kitchen_tasks": True})
        online = counting.online(batch)
        np.testing.assert_array_equal(online.rewards, [0.0, 1.0])
        np.testing.assert_array_equal(online.masks, [1.0, 1.0])  # in the data, reward goes on
        for field, expected in zip(counting.batch(batch), others.batch(batch), strict=True):
            np.testing.assert_array_equal(field, expected)
        for field, expected in zip(others.online(batch), others.batch(batch), strict=True):
            np.testing.assert_array_equal(field, expected)


def test_they_are_the_real_files_rewards(kitchen_file):
    with h5py.File(kitchen_file) as file:
        observations, rewards = file["observations"][()], file["rewards"][()]
    np.testing.assert_array_equal(tasks_done(observations), rewards)


@pytest.mark.parametrize(
    ("env_name", "reward", "counts"),
    [("kitchen-mixed-v0", 1.0, True), ("kitchen-mixed-v0", 0.0, False), ("pointmaze-umaze-v0", 1.0, False)],
)
def test_the_data_tell_whose_reward_they_have(env_name, reward, counts):
    """In each of these rows the microwave is open, which is one task done."""
    rows = np.stack([seen(at22=-0.75)] * 5)
    batch = Batch(rows, rows[:, :9], np.full(5, reward, np.float32), np.ones(5, np.float32), rows)
    data = Dataset(batch, np.ones(5, bool), "file")
    assert fit_preprocessing(data, get_task(env_name)).counts_kitchen_tasks is counts


def test_the_simulator_agrees():
    """Its objects are put at some tasks' goals. It rewards once what is done from then on."""
    kitchen_env = pytest.importorskip("gymnasium_robotics.envs.franka_kitchen.kitchen_env")
    from xql_jax.envs.robotics import Kitchen

    assert {name: tuple(places) for name, places in kitchen_env.OBS_ELEMENT_INDICES.items()} == POSITIONS
    assert kitchen_env.BONUS_THRESH == THRESHOLD
    env = Kitchen(get_task("kitchen-complete-v0"))
    before, _ = env.reset(seed=0)
    assert tasks_done(before) == 0.0
    for name in ("microwave", "slide cabinet"):
        env.simulation.data.qpos[list(POSITIONS[name])] = kitchen_env.OBS_ELEMENT_GOALS[name]
    after, reward, *_ = env.step(np.zeros(9, np.float32))
    assert reward == 2.0
    assert tasks_done(after) == 2.0
    again, reward, *_ = env.step(np.zeros(9, np.float32))
    env.close()
    assert reward == 0.0  # it rewards a task once
    assert tasks_done(again) == 2.0
