"""Gymnasium's MuJoCo tasks, wrapped, against Gymnasium itself."""

import gymnasium
import numpy as np
import pytest

from xql_jax.envs.gymnasium_tasks import GymnasiumTask
from xql_jax.tasks import Task

NAMES = [
    name
    for name, spec in gymnasium.registry.items()
    if str(spec.entry_point).startswith("gymnasium.envs.mujoco") and spec.version == 5
]


def wrapped(name: str, episode_limit: int = 1000) -> GymnasiumTask:
    return GymnasiumTask.for_task(Task(name, "gymnasium", None, 0.0, 100.0, episode_limit))


def random_actions(env, steps: int, seed: int = 0) -> np.ndarray:
    shape = steps, *env.action_space.shape
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_all_of_gymnasiums_robots_are_here():
    assert len(NAMES) == 11
    assert {"HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "InvertedPendulum-v5"} <= {
        *NAMES
    }


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


def test_time_outs_are_no_terminals():
    env = wrapped("HalfCheetah-v5", episode_limit=3)
    for seed in (0, 1):
        env.reset(seed=seed)
        ends = [env.step(np.zeros(6))[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (False, True)]


def test_a_fall_at_the_limit_is_terminal_only():
    def fall(limit: int) -> list[tuple[bool, bool]]:
        env, ends = wrapped("Hopper-v5", limit), []
        env.reset(seed=0)
        while not ends or ends[-1] == (False, False):
            ends.append(env.step(np.ones(3))[2:4])
        return ends

    ends = fall(1000)
    assert ends[-1] == (True, False)
    assert fall(len(ends)) == ends
    assert fall(len(ends) - 1)[-1] == (False, True)


@pytest.mark.parametrize("name", ["Hopper-v5", "Humanoid-v5"])
def test_seconds(name):
    env = wrapped(name)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros(env.action_space.shape))
    assert env.steps_per_second == pytest.approx(5 / env._robot.data.time)


@pytest.mark.draws
@pytest.mark.parametrize("name", ["Ant-v5", "InvertedPendulum-v5"])  # with a camera of its own, and without
def test_pictures_show_the_state_and_leave_it_alone(name):
    env, quiet = wrapped(name), wrapped(name)
    env.reset(seed=0)
    quiet.reset(seed=0)
    first = env.render()
    assert first.shape[2] == 3
    assert first.dtype == np.uint8
    assert first.std() > 1
    for action in random_actions(env, 5):
        np.testing.assert_array_equal(env.step(action)[0], quiet.step(action)[0])
    assert (env.render() != first).mean() > 1e-3
    env.close()


def test_bad_input():
    with pytest.raises(gymnasium.error.Error, match="HalfCheeta"):
        wrapped("HalfCheeta-v5")
    env = wrapped("HalfCheetah-v5")
    env.reset(seed=0)
    for shape in ((1,), (), (7,), (1, 6)):
        with pytest.raises(ValueError, match=r"must be of shape \(6,\), not \("):
            env.step(np.zeros(shape))
