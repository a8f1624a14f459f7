"""Gymnasium's MuJoCo tasks, wrapped, against Gymnasium itself."""

import gymnasium
import numpy as np
import pytest

from xql_jax.envs.registered import Registered
from xql_jax.tasks import Task

NAMES = [
    name
    for name, spec in gymnasium.registry.items()
    if str(spec.entry_point).startswith("gymnasium.envs.mujoco") and spec.version == 5
]


def wrapped(name: str, episode_limit: int = 1000) -> Registered:
    return Registered(Task(name, "gymnasium", None, 0.0, 100.0, episode_limit))


def random_actions(env, steps: int, seed: int = 0) -> np.ndarray:
    shape = steps, *env.action_space.shape
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_episodes_are_gymnasiums_bit_for_bit_whatever_came_before(name):
    env, raw = wrapped(name), gymnasium.make(name)
    reach = raw.action_space.high  # their bounds are symmetric
    np.testing.assert_array_equal(raw.action_space.low, -reach)
    for seed in (1, 0, 1):
        observation, _ = env.reset(seed=seed)
        np.testing.assert_array_equal(observation, raw.reset(seed=seed)[0].astype(np.float32))
        assert env.observation_space.contains(observation)
        for action in random_actions(env, 40, seed):
            observation, reward, terminated, truncated, info = env.step(action)
            theirs = raw.step(reach * action)
            np.testing.assert_array_equal(observation, theirs[0].astype(np.float32))
            assert (reward, terminated, truncated, info) == (*theirs[1:4], {})
            if terminated:
                break
    env.close()


def test_actions_are_mapped_to_the_tasks_bounds_and_clipped():
    env = wrapped("InvertedPendulum-v5")
    for action, control in [(1.0, 3.0), (-0.5, -1.5), (9.0, 3.0), (-np.inf, -3.0)]:
        env.reset(seed=0)
        env.step(np.array([action], np.float32))
        assert env._robot.data.ctrl.tolist() == [control]
