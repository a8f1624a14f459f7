"""HalfCheetah, Hopper and Walker2d against Gymnasium's v4 environments, bit for bit."""

import numpy as np
import pytest

from xql_jax.envs.locomotion import ROBOTS, Locomotion
from xql_jax.suites.tasks import get_task

ALL_ROBOTS = pytest.mark.parametrize("name", ROBOTS)


def locomotion(name: str) -> Locomotion:
    return Locomotion(get_task(f"{name}-medium-v2"))


def random_actions(env: Locomotion, steps: int, seed: int = 0) -> np.ndarray:
    shape = steps, *env.action_space.shape
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@ALL_ROBOTS
def test_episodes_are_gymnasiums_bit_for_bit(name):
    env, other = locomotion(name), ROBOTS[name]()
    assert env.observation_space.shape == other.observation_space.shape
    np.testing.assert_array_equal(env.action_space.low, other.action_space.low)
    ends = 0
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        np.testing.assert_array_equal(observation, other.reset(seed=seed)[0].astype(np.float32))
        for action in random_actions(env, 100, seed):
            observation, reward, terminated, truncated, _ = env.step(action)
            theirs, their_reward, their_terminated, _, _ = other.step(action)
            np.testing.assert_array_equal(observation, theirs.astype(np.float32))
            assert (reward, terminated, truncated) == (their_reward, their_terminated, False)
            if terminated:
                ends += 1
                break
    assert ends == (0 if name == "halfcheetah" else 5)
