"""The evaluator on an environment whose returns are worked by hand, and on a real one."""

import dataclasses

import numpy as np
import pytest
from gymnasium import spaces

from xql_jax import envs
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.tasks import Task, get_task

TASK = Task("clock-v0", "fake", None, 0.0, 1.0, 5)


class Clock:
    """Runs for 1 to 5 steps by its seed and shows [steps in all, steps done]; the action is the reward."""

    observation_space = spaces.Box(0.0, 10.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    made: list = []  # noqa: RUF012
    steps_per_second = 1.0
    tells_success = False

    def __init__(self, task):
        self.made.append(self)
        self.closed = False

    def reset(self, *, seed=None):
        self.steps, self.length = 0, 1 + seed % 5
        return self.observation(), {}

    def step(self, action):
        assert self.steps < self.length, "stepped after its end"
        self.steps += 1
        over = self.steps == self.length
        # Even lengths end by terminating, odd ones by truncation: both are ends.
        return (
            self.observation(),
            float(action[0]),
            over and not self.length % 2,
            over and bool(self.length % 2),
            {"success": self.steps >= 3} if self.tells_success else {},
        )

    def observation(self):
        return np.array([self.length, self.steps], np.float32)

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def clocks(monkeypatch):
    monkeypatch.setitem(envs.SUITES, "fake", envs.Suite(Clock))
    monkeypatch.setattr(Clock, "made", [])
    return Clock


def member_rewards(observations):
    """Member m earns (m + 1) / 100 times the steps done so far."""
    members = np.arange(1, len(observations) + 1)[:, None]
    return (members * observations[..., 1] / 100)[..., None]


def test_returns_by_hand():
    results = Evaluator(TASK, num_members=3, num_episodes=20, seed=0).run(member_rewards)
    lengths = results.lengths
    assert set(lengths[0]) == {1, 2, 3, 4, 5}  # else the other tests here show little
    np.testing.assert_array_equal(lengths, np.broadcast_to(lengths[0], (3, 20)))  # same starts for all
    expected = np.array([[1], [2], [3]]) / 100 * (lengths * (lengths - 1) / 2)
    np.testing.assert_allclose(results.returns, expected, rtol=1e-6)
    assert results.paths is None


@pytest.mark.parametrize("max_environments", [1, 6, 9, 10, 1000])
def test_results_do_not_depend_on_how_many_run_at_once(max_environments, clocks):
    reference = Evaluator(TASK, 3, 10, seed=1).run(member_rewards, record_paths=True)
    clocks.made.clear()
    results = Evaluator(TASK, 3, 10, seed=1, max_environments=max_environments).run(
        member_rewards, record_paths=True
    )
    assert len(clocks.made) <= max(3, max_environments)
    np.testing.assert_array_equal(results.returns, reference.returns)
    np.testing.assert_array_equal(results.lengths, reference.lengths)
    for member in range(3):
        for episode in range(10):
            np.testing.assert_array_equal(results.paths[member][episode], reference.paths[member][episode])


def test_policy_is_called_once_a_step_with_one_shape():
    calls = []

    def act(observations):
        calls.append(observations.copy())
        return member_rewards(observations)

    lengths = Evaluator(TASK, 2, 7, seed=0, max_environments=8).run(act).lengths[0]
    # Eight environments are four places a member: two batches of four episodes, the last with an empty place.
    assert len(calls) == lengths[:4].max() + lengths[4:].max()
    assert {call.shape for call in calls} == {(2, 4, 2)}
    assert {call.dtype for call in calls} == {np.dtype(np.float32)}
    last = calls[lengths[:4].max() - 1]
    expected = np.minimum(lengths[:4], lengths[:4].max() - 1)  # those that are over stay where they ended
    np.testing.assert_array_equal(last[0, :, 1], expected)
    np.testing.assert_array_equal(calls[-1][:, 3], 0.0)


def test_runs_repeat_and_reuse_environments(clocks):
    evaluator = Evaluator(TASK, 2, 9, seed=3, max_environments=6)
    first = evaluator.run(member_rewards)
    made = list(clocks.made)
    assert len(made) == 6
    second = evaluator.run(member_rewards)
    np.testing.assert_array_equal(first.returns, second.returns)
    np.testing.assert_array_equal(first.lengths, second.lengths)
    assert clocks.made == made
    evaluator.close()
    assert all(clock.closed for clock in made)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_real_episodes_equal_lone_ones_to_the_bit(num_threads, monkeypatch):
    task = get_task("pointmaze-umaze-v0")
    suite = dataclasses.replace(envs.SUITES["pointmaze"], num_threads=num_threads)
    monkeypatch.setitem(envs.SUITES, "pointmaze", suite)

    def policy(member, observation):  # jumpy: the last bit of a state soon shows
        return 40 * (member + 1) * observation[..., :2] % 2 - 1

    evaluator = Evaluator(task, 2, 5, seed=7, max_environments=4)
    results = evaluator.run(lambda o: np.stack([policy(0, o[0]), policy(1, o[1])]), record_paths=True)
    evaluator.close()
    for member in range(2):
        for episode in range(5):
            env = envs.make_environment(task)
            observation, _ = env.reset(seed=int(np.random.SeedSequence((7, episode)).generate_state(1)[0]))
            path, rewards, over = [observation], [], False
            while not over:
                observation, reward, _, over, _ = env.step(policy(member, observation))
                path.append(observation)
                rewards.append(reward)
            np.testing.assert_array_equal(results.paths[member][episode], path)
            assert results.returns[member, episode] == sum(rewards)
    assert len(np.unique(results.returns)) > 2


def test_an_episode_succeeds_if_its_last_step_says_so(clocks, monkeypatch):
    assert Evaluator(TASK, 2, 20, seed=0).run(member_rewards).successes is None
    monkeypatch.setattr(clocks, "tells_success", True)
    results = Evaluator(TASK, 2, 20, seed=0, max_environments=6).run(member_rewards)
    assert (results.successes == (results.lengths >= 3)).all()
    assert 0 < results.successes.mean() < 1
