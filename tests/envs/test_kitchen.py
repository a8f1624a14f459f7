"""The kitchen against the real kitchen-complete file and D4RL's noise."""

import h5py
import numpy as np
import pytest

from xql_jax.tasks import get_task

pytest.importorskip("gymnasium_robotics")

from xql_jax.envs.robotics import Kitchen

# Half-ranges of D4RL's noise by position: measured in the real file for objects at rest.
NOISE = np.array(
    [0.01] * 9 + [5e-4] * 2 + [5e-5] * 6 + [5e-4] * 3 + [0.01] * 3 + [5e-4] * 3 + [0.01] * 3 + [5e-4]
)


@pytest.fixture(scope="module")
def env():
    env = Kitchen(get_task("kitchen-complete-v0"))
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
    env = Kitchen(get_task("kitchen-mixed-v0"))
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


@pytest.mark.slow
def test_demonstrations_complete_all_tasks_once(env, demonstrations):
    errors = []
    for observations, actions in demonstrations:
        env.reset(seed=0)
        rewards, outcomes, positions = [], [], []
        for observation, action in zip(observations, actions, strict=True):
            positions.append(env.simulation.data.qpos[:9].copy())
            # A command starts from the last noisy joint positions: give it those of the demonstration.
            env.simulation.robot_env._last_robot_qpos = observation[:9].astype(float)
            _, reward, terminated, truncated, info = env.step(action)
            rewards.append(reward)
            outcomes.append((terminated, truncated, info["success"]))
            if terminated:
                break
        errors.append(np.abs(positions - observations[: len(positions), :9]))
        assert sum(rewards) == 4.0
        assert set(rewards) == {0.0, 1.0}  # one at a time, each counted in one step only
        assert rewards[-1] == 1.0
        assert outcomes == [(False, False, False)] * (len(outcomes) - 1) + [(True, False, True)]
    assert len(demonstrations) == 19
    # Demonstrations start in other poses than ours, and 20 steps take the arm from one to the other. What is
    # left then is the data's noise, U(-0.01, 0.01): its absolute value has the median 0.005.
    assert max(error[20].max() for error in errors) < 0.01
    np.testing.assert_allclose(np.median(np.concatenate([error[20:] for error in errors])), 0.005, rtol=0.01)


@pytest.mark.slow
def test_random_policy_gets_d4rls_reference_return(env):
    returns = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        env.reset(seed=seed)
        returns.append(sum(env.step(rng.uniform(-1, 1, 9))[1] for _ in range(280)))
    # 0 is D4RL's by definition: here 5 of the 100 episodes do one task by accident, which is a score of 1.25.
    assert set(returns) <= {0.0, 1.0}
    assert np.mean(returns) < 0.15
