"""OGBench: environments and rewards against the package itself, its oracles' data, scores by success."""

import dataclasses

import numpy as np
import pytest
from slow_cases import slow_but

ogbench = pytest.importorskip("ogbench")

import gymnasium  # noqa: E402
from ogbench_data import EPISODE_ROWS, generate_oracle  # noqa: E402

from xql_jax.data.loading import load_dataset  # noqa: E402
from xql_jax.envs.ogbench import OGBench, environment_of, rewarded  # noqa: E402
from xql_jax.errors import UserError  # noqa: E402
from xql_jax.suites.tasks import SUITES, get_task  # noqa: E402

OURS = list(SUITES["ogbench"].tasks())
POINT = "pointmaze-medium-navigate-singletask-task3-v0"
CUBE = "cube-single-play-singletask-v0"


def test_every_task_is_the_package_s_with_its_limit():
    specs = {environment_of(task): gymnasium.spec(environment_of(task)) for task in OURS}
    limits = {environment_of(task): task.episode_limit for task in OURS}
    assert {name: spec.max_episode_steps for name, spec in specs.items()} == limits
    assert len(OURS) == 6 * 47


@pytest.mark.parametrize("name", [POINT, CUBE])
def test_episodes_are_the_package_s(name):
    """The same starts, observations, rewards and ends, from the seed alone, whoever else draws numbers."""
    task = dataclasses.replace(get_task(name), episode_limit=30)
    ours, theirs = OGBench(task), gymnasium.make(environment_of(task), max_episode_steps=30)
    generator = np.random.default_rng(0)
    for seed in (5, 6):
        np.random.seed(seed)  # noqa: NPY002
        expected, _ = theirs.reset(seed=seed)
        np.random.seed(0)  # noqa: NPY002
        observation, _ = ours.reset(seed=seed)
        np.testing.assert_array_equal(observation, expected.astype(np.float32))
        for step in range(1, 31):
            action = generator.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
            expected, reward, ends, truncates, info = theirs.step(action)
            observation, *outcome, about = ours.step(action)
            np.testing.assert_array_equal(observation, expected.astype(np.float32))
            assert outcome == [reward, ends, truncates]
            assert about["success"] == info["success"]
            assert truncates == (step == 30)
    ours.close()
    theirs.close()


ORACLES = [POINT, CUBE, "scene-noisy-singletask-v0", "puzzle-3x3-play-singletask-v0"]


@pytest.mark.parametrize("name", slow_but(ORACLES, POINT, CUBE))
def test_data_by_oracles_are_read_as_the_package_reads_them(name, tmp_path):
    task = get_task(name)
    rows = generate_oracle(task, EPISODE_ROWS - 1, 3, count=lambda number: None)
    again = generate_oracle(task, EPISODE_ROWS - 1, 3, count=lambda number: None)
    assert all(np.array_equal(again[key], value) for key, value in rows.items())
    assert rows["terminals"].nonzero()[0].tolist() == [EPISODE_ROWS - 1]
    assert np.abs(rows["actions"]).max() <= 1
    for path in (tmp_path / "set.npz", tmp_path / "set-val.npz"):
        np.savez(path, **rows)
    _, theirs, _ = ogbench.make_env_and_datasets(name, dataset_path=str(tmp_path / "set.npz"))
    batch = load_dataset(task, [f"ogbench:{tmp_path / 'set.npz'}"]).batch
    for ours in ("observations", "actions", "rewards", "masks", "next_observations"):
        np.testing.assert_array_equal(getattr(batch, ours), theirs[ours], err_msg=ours)
    assert (batch.rewards < 0).all() or (batch.masks == 0).any()


@pytest.mark.parametrize("name", ["puzzle-3x3-play-singletask-v0", CUBE])
def test_states_of_another_environment_are_refused(name, tmp_path):
    rows = {"observations": np.ones((9, 3)), "actions": np.ones((9, 2)), "terminals": np.arange(9) == 8}
    np.savez(tmp_path / "maze.npz", **rows, qpos=np.ones((9, 2)), button_states=np.ones((9, 5)))
    with pytest.raises(UserError, match=rf"maze\.npz: .* states that fit {name}"):
        load_dataset(get_task(name), [f"ogbench:{tmp_path / 'maze.npz'}"])


def test_oracles_reach_the_tasks_goals():
    """In a point's episode some cell of the task's goal is visited, and its rows end the return."""
    rows = generate_oracle(get_task(POINT), 4 * (EPISODE_ROWS - 1), 0, count=lambda number: None)
    labelled = rewarded(get_task(POINT), rows)
    assert 0 < (labelled["rewards"] == 0).sum() < len(rows["actions"]) / 10
    np.testing.assert_array_equal(labelled["masks"] == 0, labelled["rewards"] == 0)
