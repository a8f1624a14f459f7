"""The adapter of D4RL's own environments against the package itself, by PyBullet's tasks."""

import sys
import types

import numpy as np
import pytest

from xql_jax.envs.d4rl_backend import d4rl_suite, innermost
from xql_jax.errors import UserError
from xql_jax.tasks import TASKS, get_task

BULLET = [task for task in TASKS.values() if task.suite == "bullet"]


@pytest.fixture(autouse=True)
def no_mujoco(monkeypatch, d4rl_package):
    """What the tests say holds where MuJoCo 2.1 is not installed."""
    monkeypatch.setitem(sys.modules, "mujoco_py", None)


@pytest.fixture
def make():
    """Makes environments, and closes them."""
    made = []

    def make(name):
        task = get_task(name)
        made.append(d4rl_suite(task).make(task))
        return made[-1]

    yield make
    for env in made:
        env.close()


def test_the_innermost_environment_is_found():
    """AntMaze is a proxy: its `unwrapped` is the proxy, and `seed` ends there."""
    ant = types.SimpleNamespace()
    proxy = types.SimpleNamespace(wrapped_env=types.SimpleNamespace(wrapped_env=ant))
    assert innermost(types.SimpleNamespace(unwrapped=proxy)) is ant


def test_episode_is_that_of_the_package(make):
    import gym

    ours = make("bullet-hopper-medium-v0")
    theirs = gym.make("bullet-hopper-medium-v0", disable_env_checker=True)
    theirs.reset()  # the first reward of PyBullet's first episode is unlike others'
    theirs.seed(3)
    actions = np.random.default_rng(0).uniform(-1, 1, (1000, 3))
    start, _ = ours.reset(seed=3)
    np.testing.assert_array_equal(start, theirs.reset())
    for action in actions:
        observation, reward, terminated, truncated, _ = ours.step(action)
        their_observation, their_reward, done, _ = theirs.step(action)
        np.testing.assert_array_equal(observation, their_observation)
        assert (reward, terminated, truncated) == (their_reward, done, False)
        if done:
            break
    theirs.close()
    assert done  # it falls within a few steps


def test_time_limit_truncates(make):
    env = make("bullet-maze2d-open-v0")
    for _ in range(2):
        env.reset(seed=0)
        ends = [env.step(np.zeros(2))[2:4] for _ in range(150)]
        assert ends == [(False, False)] * 149 + [(False, True)]


def test_episode_depends_on_the_seed_alone(make):
    def episode(env, seed):
        return np.array([env.reset(seed=seed)[0], *(env.step(np.full(2, 0.5))[0] for _ in range(8))])

    env = make("bullet-maze2d-large-v0")
    first = episode(env, 1)
    assert first.dtype == np.float32
    assert (episode(env, 2) != first).any(axis=1).all()
    for again in (env, make("bullet-maze2d-large-v0")):
        np.testing.assert_array_equal(episode(again, 1), first)


@pytest.mark.parametrize("task", BULLET, ids=lambda task: task.name)
def test_every_bullet_task_can_be_played(make, task):
    env = make(task.name)
    start, _ = env.reset(seed=0)
    assert env.observation_space.contains(start)
    observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
    assert (terminated, truncated) == (False, False)
    assert env._env.spec.max_episode_steps == task.episode_limit
    # The task's score is the package's.
    np.testing.assert_allclose(
        task.normalized_score(np.array(77.0)), 100 * env._env.get_normalized_score(77.0)
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hopper-medium-v2", r"hopper-medium-v2 \(suite locomotion\) needs MuJoCo 2.1 and mujoco-py"),
        ("pointmaze-umaze-v0", r"pointmaze-umaze-v0 is not D4RL's.*maze2d"),
    ],
)
def test_says_what_is_not_here(name, told):
    with pytest.raises(UserError, match=told):
        d4rl_suite(get_task(name))
