"""The generated dataset: statistics of D4RL's recipe, its own dynamics, and the file."""

import dataclasses
import time

import numpy as np
import pytest

from xql_jax.data import pointmaze
from xql_jax.data.dataset import Dataset
from xql_jax.data.loading import load_dataset
from xql_jax.data.preprocessing import fit_preprocessing, task_of_rewards
from xql_jax.envs.mazes import maze_of
from xql_jax.envs.point_maze import PointMaze
from xql_jax.suites.tasks import get_task
from xql_jax.types import Batch

TASK = get_task("pointmaze-umaze-v0")
GOAL = np.array([1.0, 1.0], np.float32)


@pytest.fixture(scope="module")
def data():
    return pointmaze.generate_pointmaze(TASK, num_steps=40_000, seed=1)


def test_statistics_of_the_recipe(data):
    # D4RL's script with noise gives 78 steps a goal (500 goals, standard error 3); a seventh of them lie in
    # the last one's cell and take one step; the mean reward is 0.067; 31 to 33% of action entries are ±1.
    steps = np.diff(np.flatnonzero(data["timeouts"]))
    assert steps.mean() == pytest.approx(78, abs=9)
    assert (steps == 1).mean() == pytest.approx(1 / 7, abs=0.05)
    assert data["rewards"].mean() == pytest.approx(0.067, abs=0.02)
    assert (np.abs(data["actions"]) == 1).mean() == pytest.approx(0.32, abs=0.015)
    # The release's positions, as others print them, lie in [0.39, 3.22] x [0.63, 3.22].
    np.testing.assert_allclose(data["observations"].max(0), [3.22, 3.22, 5.23, 5.23], atol=0.02)
    assert (data["observations"].min(0) > [0.38, 0.6, -5.24, -5.24]).all()


def test_rare_leaves_out_what_comes_near_the_goal():
    """25 trajectories of 4 rows; each third one comes near the goal in its second row."""
    maze = maze_of("pointmaze-large-rare-v0")
    (row, column), far = maze.goal, (1.0, 1.0)
    near = [(row - 1, column - 1), (row, column)]  # a move off the goal's dead end, and the goal
    positions = np.array([far] * 102, float)
    comes_near = range(0, 25, 3)
    for number, trajectory in enumerate(comes_near):
        positions[4 * trajectory + 1] = near[number % 2]
    arrays = {
        "observations": np.concatenate([positions, 0 * positions], axis=1),
        "timeouts": np.arange(102) % 4 == 3,  # the last two rows arrive nowhere
        "number": np.arange(102),
    }
    rare = pointmaze.made_rare(arrays, maze)
    kept = [each for each in range(25) if each not in comes_near or each in (0, 9, 18)]
    np.testing.assert_array_equal(rare["number"], [4 * each + i for each in kept for i in range(4)])
    np.testing.assert_array_equal(rare["timeouts"], np.arange(len(rare["number"])) % 4 == 3)


def test_actions_explain_the_next_rows(data):
    # Across arrivals too: the run is unbroken and no row is repeated. Stored states are rounded to float32,
    # which contacts magnify a little.
    env = PointMaze(TASK)
    for t in range(5_000):
        env.set_state(data["infos/qpos"][t], data["infos/qvel"][t])
        observation, *_ = env.step(data["actions"][t])
        np.testing.assert_allclose(observation, data["observations"][t + 1], atol=2e-5, err_msg=f"row {t}")
    assert data["timeouts"][:5_000].sum() > 25


def test_rewards_are_those_of_the_same_row(data):
    np.testing.assert_array_equal(np.hstack([data["infos/qpos"], data["infos/qvel"]]), data["observations"])
    assert not data["terminals"].any()
    near = np.hypot(*(data["observations"][:, :2] - GOAL).T) <= 0.5
    np.testing.assert_array_equal(data["rewards"], near.astype(np.float32))
    assert (near[1:] != near[:-1]).sum() > 50  # of the next row would be another answer


@pytest.mark.parametrize("dense", [False, True])
def test_the_environments_transitions_get_the_rewards_of_the_data(data, dense):
    """Goal entries and exits are where the two differ. Collected data, with the environment's, keep these."""
    task = get_task("maze2d-umaze-dense-v1") if dense else TASK
    distances = np.hypot(*(data["observations"][:, :2] - GOAL).T)
    rewards = np.exp(-distances) if dense else data["rewards"]
    crossings = np.flatnonzero(np.diff(distances <= 0.5))
    environment, met = PointMaze(task), []
    for t in crossings[:30]:
        environment.set_state(data["infos/qpos"][t], data["infos/qvel"][t])
        met.append(environment.step(data["actions"][t])[1])
    np.testing.assert_allclose(met, rewards[crossings[:30] + 1], atol=1e-4)  # of the next row

    states, ones = data["observations"], np.ones(len(distances) - 1, np.float32)
    rows = Batch(states[:-1], data["actions"][:-1], rewards[:-1].astype(np.float32), ones, states[1:])
    collected = rows._replace(rewards=rewards[1:].astype(np.float32))
    for batch, expected in ((rows, rewards[crossings[:30]]), (collected, met)):
        dataset = Dataset(batch, ones > 1, "file")
        whose = task_of_rewards(dataset, task)
        preprocessing = dataclasses.replace(fit_preprocessing(dataset, task), rewards_as_in=whose)
        part = Batch(*(field[crossings[:30]] for field in rows))._replace(rewards=np.float32(met))
        np.testing.assert_allclose(preprocessing.of_environment(part).rewards, expected, atol=1e-6)


def test_timeouts_are_arrivals_at_targets(data):
    targets, positions = data["infos/goal"], data["infos/qpos"]
    distances = np.hypot(*(positions - np.round(targets)).T)
    np.testing.assert_array_equal(distances < 0.1, data["timeouts"])
    changed = np.append((targets[1:] != targets[:-1]).any(1), False)
    np.testing.assert_array_equal(changed[:-1], data["timeouts"][:-1])
    assert np.abs(targets - np.round(targets)).max() == pytest.approx(0.1, abs=2e-3)
    assert len(np.unique(np.round(targets), axis=0)) == 7


@pytest.mark.parametrize("name", ["pointmaze-umaze-v0", "pointmaze-large-rare-v0"])
def test_the_file_has_the_same_bytes_each_time_and_is_made_once(tmp_path, monkeypatch, name):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "datasets"))
    monkeypatch.setattr(pointmaze, "NUM_STEPS", 2_000)
    task, path = get_task(name), tmp_path / "datasets" / f"{name}.hdf5"
    dataset = load_dataset(task, [])
    assert dataset.source == str(path)
    first = path.read_bytes()
    path.unlink()
    time.sleep(1.1)  # time stamps in HDF5 have a resolution of a second
    pointmaze.write_generated(task, path)
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.setattr(pointmaze, "generate_pointmaze", None)
    assert load_dataset(task, []).fingerprint() == dataset.fingerprint()


def test_these_are_the_arrays():
    """Others would end the runs on them. The numbers are no digest: another processor may round otherwise."""
    made = pointmaze.generate_pointmaze(TASK, num_steps=1001, seed=pointmaze.DATA_SEED)
    assert (pointmaze.NUM_STEPS, made["timeouts"].sum()) == (200_000, 11)
    last = np.append(made["observations"][1000], made["actions"][1000])
    np.testing.assert_allclose(last, [2.82966, 2.64927, -0.07464, 4.24783, 0.28438, -1.0], atol=1e-3)
