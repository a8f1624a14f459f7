"""The kitchen against the real kitchen-complete file and D4RL's noise."""

import h5py
import numpy as np
import pytest

from xql_jax.tasks import get_task

pytest.importorskip("gymnasium_robotics")

from xql_jax.envs.kitchen import Kitchen

# Half-ranges of D4RL's noise by position: measured in the real file for objects at rest.
NOISE = np.array(
    [0.01] * 9 + [5e-4] * 2 + [5e-5] * 6 + [5e-4] * 3 + [0.01] * 3 + [5e-4] * 3 + [0.01] * 3 + [5e-4]
)


@pytest.fixture(scope="module")
def env():
    env = Kitchen.for_task(get_task("kitchen-complete-v0"))
    yield env
    env.close()


@pytest.fixture
def demonstrations(kitchen_file):
    """The file's demonstrations: (observations f32[T, 60], actions f32[T, 9]) each."""
    with h5py.File(kitchen_file) as file:
        observations, actions, terminals = (file[key][()] for key in ("observations", "actions", "terminals"))
    ends = np.flatnonzero(terminals) + 1
    return list(zip(np.split(observations, ends), np.split(actions, ends), strict=True))[:-1]


def test_goal_and_start_are_those_of_the_real_file(env, demonstrations):
    for observations, _ in demonstrations:
        start, _ = env.reset(seed=0)
        np.testing.assert_array_equal(np.unique(observations[:, 30:], axis=0), start[None, 30:])
        # A demonstration's first row is not the arm's reset pose, but the objects rest where they do here, to
        # noise on both sides and a little settling.
        np.testing.assert_array_less(np.abs(start[9:30] - observations[0, 9:30]), 3 * NOISE[9:])


def test_goal_of_mixed_has_the_burner_in_place_of_the_cabinet():
    env = Kitchen.for_task(get_task("kitchen-mixed-v0"))
    goal = env.reset(seed=0)[0][30:]
    env.close()
    np.testing.assert_array_equal(np.flatnonzero(goal), [11, 12, 17, 18, 22, 23, 24, 25, 26, 29])
    np.testing.assert_allclose(goal[[11, 12, 17, 18, 22]], [-0.88, -0.01, -0.69, -0.05, -0.75])


def test_noise_is_d4rls(env):
    deviations = np.array(
        [env.reset(seed=seed)[0][:30] - env.simulation.data.qpos[:30] for seed in range(1000)]
    )
    # The maximum of 1000 draws falls below 0.985 of the half-range with probability 3e-7; float32 rounds.
    extremes = np.abs(deviations).max(0) / NOISE
    assert (extremes > 0.985).all()
    assert (extremes < 1.005).all()
    correlations = np.corrcoef(deviations.T)[np.triu_indices(30, 1)]
    assert np.abs(correlations).max() < 0.2  # each entry has its own noise; 0.2 is six standard deviations


def test_demonstrations_complete_all_tasks_once(env, demonstrations):
    for observations, actions in demonstrations[:3]:
        env.reset(seed=0)
        rewards, ends = [], []
        for observation, action in zip(observations, actions, strict=True):
            # A command starts from the last noisy joint positions: give it those of the demonstration.
            env.simulation.robot_env._last_robot_qpos = observation[:9].astype(float)
            _, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
            ends.append((terminated, truncated))
            if terminated:
                break
        assert sum(rewards) == 4.0
        assert set(rewards) == {0.0, 1.0}  # one at a time, each counted in one step only
        assert rewards[-1] == 1.0
        assert ends == [(False, False)] * (len(ends) - 1) + [(True, False)]


def test_idling_is_truncated(env):
    env.reset(seed=0)
    outcomes = [env.step(np.zeros(9, np.float32))[1:4] for _ in range(280)]
    assert outcomes == [(0.0, False, False)] * 279 + [(0.0, False, True)]


def test_episode_depends_on_the_seed_alone(env):
    actions = np.random.default_rng(0).uniform(-1, 1, (10, 9))

    def episode(seed):
        return np.array([env.reset(seed=seed)[0], *(env.step(action)[0] for action in actions)])

    first = episode(1)
    other = episode(2)
    np.testing.assert_array_equal(episode(1), first)
    assert (np.abs(other - first)[:, :30] > 0).mean() > 0.99
