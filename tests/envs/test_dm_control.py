"""The wrapped tasks of dm_control.suite against the suite itself, bit for bit."""

import functools
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from dm_control import suite
from dm_control.rl import control
from dm_control.rl.control import flatten_observation

from xql_jax.envs.dm_control import DMControl
from xql_jax.envs.point_maze import PointMaze
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.tasks import Task, get_task

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
NAMES = ["-".join(pair) for pair in suite.ALL_TASKS]
REGULATORS = ["lqr-lqr_2_1", "lqr-lqr_6_2"]
# Much used tasks, and those whose starts alter the model: terrain, targets, gains.
SOME = [
    "cheetah-run",
    "walker-run",
    "hopper-hop",
    "quadruped-escape",
    "cartpole-swingup",
    "ball_in_cup-catch",
    "point_mass-hard",
    "humanoid_CMU-stand",
]


def wrapped(name: str, episode_limit: int = 1000) -> DMControl:
    return DMControl(Task(name, "dm_control", None, 0.0, 1000.0, episode_limit))


def random_actions(env, steps: int, seed: int = 0) -> np.ndarray:
    shape = steps, *env.action_space.shape
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def episode(env, seed: int, steps: int) -> np.ndarray:
    """Observations and rewards of an episode's start, f64[steps + 1, O + 1]."""
    rows = [[*env.reset(seed=seed)[0], 0.0]]
    for action in random_actions(env, steps, seed):
        observation, reward, *_ = env.step(action)
        rows.append([*observation, reward])
    return np.array(rows)


@pytest.mark.parametrize(
    "name", [name if name in SOME else slow(name) for name in NAMES if name not in REGULATORS]
)
def test_episodes_are_the_suites_bit_for_bit_whatever_came_before(name):
    env = wrapped(name)
    for seed in (3, 2**32 - 1):
        raw = suite.load(*name.split("-"), task_kwargs={"random": seed})  # as its users do
        theirs = raw.reset()
        observation, _ = env.reset(seed=seed)
        np.testing.assert_array_equal(observation, flattened(theirs))
        bounds = raw.action_spec()
        middle, reach = (bounds.maximum + bounds.minimum) / 2, (bounds.maximum - bounds.minimum) / 2
        for action in random_actions(env, 25, seed):
            theirs = raw.step(middle + reach * action)
            observation, reward, terminated, truncated, info = env.step(action)
            np.testing.assert_array_equal(observation, flattened(theirs))
            assert observation.dtype == np.float32
            assert (reward, terminated, truncated, info) == (theirs.reward, False, False, {})
            assert 0 <= reward <= 1
        np.testing.assert_array_equal(env.physics.get_state(), raw.physics.get_state())
    assert env.observation_space.contains(observation)
    assert type(env._environment.task).get_termination is control.Task.get_termination  # there is none
    env.close()


def flattened(moment) -> np.ndarray:
    """The suite's own flattening."""
    return flatten_observation(moment.observation)["observations"].astype(np.float32)


@pytest.mark.parametrize("name", REGULATORS)
def test_regulators_restart_alike_whatever_came_before(name):
    env = wrapped(name)
    fresh = episode(env, seed=5, steps=12)
    other = episode(env, seed=6, steps=25)
    np.testing.assert_array_equal(episode(env, seed=5, steps=12), fresh)
    np.testing.assert_array_equal(episode(wrapped(name), seed=5, steps=12), fresh)
    assert not np.array_equal(other[0], fresh[0])


EPISODE_DIGEST = """
import hashlib, test_dm_control as t
print(hashlib.sha256(t.episode(t.wrapped("quadruped-escape"), seed=8, steps=10).tobytes()).hexdigest())
"""


def test_another_process_without_opengl_gives_the_same_episode():
    """There the suite's own environment would raise, at the first reset that draws the terrain up."""
    env = wrapped("quadruped-escape")
    episode(env, seed=1, steps=5)
    here = hashlib.sha256(episode(env, seed=8, steps=10).tobytes()).hexdigest()
    run = subprocess.run(
        [sys.executable, "-c", EPISODE_DIGEST],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=os.path.dirname(__file__),
        env={**os.environ, "MUJOCO_GL": "disabled"},
    )
    assert run.stdout.split() == [here]


def test_actions_beyond_the_bounds_are_clipped_before_rewards_see_them():
    env = wrapped("quadruped-run")
    env.reset(seed=0)
    env.step(np.full(12, -7.0))
    np.testing.assert_allclose(env.physics.control(), env.physics.model.actuator_ctrlrange[:, 0], atol=1e-15)


def test_actuators_without_a_range_take_the_action_as_it_is():
    env = wrapped("lqr-lqr_6_2")
    env.reset(seed=0)
    env.step(np.array([-0.25, 1.0], np.float32))
    assert env.physics.control().tolist() == [-0.25, 1.0]


def test_regulators_terminate_at_rest():
    env = wrapped("lqr-lqr_2_1", episode_limit=1)
    env.reset(seed=0)
    assert env.step(np.zeros(1))[2:4] == (False, True)
    env.reset(seed=0)
    with env.physics.reset_context():
        env.physics.data.qpos[:] = 1e-9
    assert env.step(np.zeros(1))[2:4] == (True, False)  # a terminal state at the limit is terminal


def test_regulators_keep_their_springs():
    first, second = wrapped("lqr-lqr_6_2"), wrapped("lqr-lqr_6_2")
    first.reset(seed=1)
    second.reset(seed=2)
    np.testing.assert_array_equal(first.physics.model.jnt_stiffness, second.physics.model.jnt_stiffness)
    theirs = [suite.load("lqr", "lqr_6_2", {"random": seed}).physics.model.jnt_stiffness for seed in (1, 2)]
    assert not np.array_equal(*theirs)


@pytest.mark.draws
def test_pictures_of_several_environments_in_one_process():
    cheetah, maze = wrapped("cheetah-run"), PointMaze(get_task("pointmaze-umaze-v0"))
    for env in (cheetah, maze):
        env.reset(seed=0)
    first = [env.render() for env in (cheetah, maze)]
    for env, picture in zip((cheetah, maze), first, strict=True):
        assert picture.std() > 1
        np.testing.assert_array_equal(env.render(), picture)
    np.testing.assert_array_equal(first[0], picture_of_a_start("cheetah-run", seed=0))
    for env in (cheetah, maze):
        env.close()


@pytest.mark.slow
@pytest.mark.draws
def test_pictures_show_the_terrain_of_their_own_episode():
    env = wrapped("quadruped-escape")
    env.reset(seed=1)
    env.render()
    env.reset(seed=2)
    np.testing.assert_array_equal(env.render(), picture_of_a_start("quadruped-escape", seed=2))
    assert (env.render() != picture_of_a_start("quadruped-escape", seed=1)).mean() > 0.01
    env.close()


def picture_of_a_start(name: str, seed: int) -> np.ndarray:
    env = wrapped(name)
    env.reset(seed=seed)
    picture = env.render()
    env.close()
    return picture


def test_without_dm_control_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control.suite", None)
    with pytest.raises(UserError, match=r"needs dm_control.* pip install 'xql_jax\[simulators\]'"):
        wrapped("cheetah-run")


def test_a_simulation_that_fails_says_so():
    env = wrapped("cheetah-run")
    env.reset(seed=0)
    with pytest.raises(EnvironmentFailure, match=r"^cheetah-run: the simulation failed: .*mjWARN_BADCTRL"):
        env.step(np.full(6, np.nan))
