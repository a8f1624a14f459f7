"""The evaluator on an environment worked by hand, and on a real one; policies with a memory."""

import h5py
import numpy as np
import pytest
from gymnasium import spaces

from xql_jax import envs
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.rollout.acting import RecurrentPolicy, prepared, with_memory_of
from xql_jax.rollout.evaluation import Evaluator, episode_seed
from xql_jax.suites import Suite
from xql_jax.suites.tasks import Task, get_task

TASK = Task("clock-v0", Suite("fake", config="own", environment=""), None, 0.0, 1.0, 5)


class Clock:
    """Runs for 1 to 5 steps by its seed and shows [steps in all, steps done]; the action is the reward."""

    observation_space = spaces.Box(0.0, 10.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    made: list = []  # noqa: RUF012
    steps_per_second = 25.0
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
        # Even lengths end by terminating, odd ones by truncation: both are ends.
        over, even = self.steps == self.length, not self.length % 2
        info = {"success": self.steps >= 3} if self.tells_success else {}
        return self.observation(), float(action[0]), over and even, over and not even, info

    def observation(self):
        return np.array([self.length, self.steps], np.float32)

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def clocks(monkeypatch):
    monkeypatch.setattr(Clock, "made", [])
    return Clock


def at_most(number):
    """The suite with at most so many environments at once."""
    return envs.EnvironmentMaker(Clock, max_environments=number)


def member_rewards(observations):
    """Member m earns (m + 1) / 100 times the steps done so far."""
    members = np.arange(1, len(observations) + 1)[:, None]
    return (members * observations[..., 1] / 100)[..., None]


@pytest.mark.parametrize("max_environments", [64, 1, 9])
def test_returns_by_hand_and_environments_used_again(max_environments, clocks):
    evaluator = Evaluator(TASK, num_members=3, num_episodes=20, seed=0, maker=at_most(max_environments))
    results = evaluator.run(member_rewards)
    lengths = results.lengths
    assert set(lengths[0]) == {1, 2, 3, 4, 5}  # else the other tests here show little
    np.testing.assert_array_equal(lengths[0], [1 + episode_seed(0, episode) % 5 for episode in range(20)])
    np.testing.assert_array_equal(lengths, np.broadcast_to(lengths[0], (3, 20)))  # same starts for all
    expected = np.array([[1], [2], [3]]) / 100 * (lengths * (lengths - 1) / 2)
    np.testing.assert_allclose(results.returns, expected, rtol=1e-6)
    assert results.successes is None
    made = list(clocks.made)
    assert len(made) <= max(3, max_environments)
    again = evaluator.run(member_rewards)
    np.testing.assert_array_equal(again.returns, results.returns)
    assert clocks.made == made
    evaluator.close()
    assert all(clock.closed for clock in made)


def test_an_episode_succeeds_if_a_step_says_so(clocks, monkeypatch):
    monkeypatch.setattr(clocks, "tells_success", True)
    results = Evaluator(TASK, 2, 20, seed=0, maker=at_most(6)).run(member_rewards)
    assert (results.successes == (results.lengths >= 3)).all()
    assert 0 < results.successes.mean() < 1


class Recorder:
    """A policy with a memory; records what it was told, in order."""

    def __init__(self):
        self.events, self.calls = [], []
        self.policy = RecurrentPolicy(
            self.act,
            lambda: self.events.append("begin"),
            lambda rewards: self.events.append(rewards.copy()),
        )

    def act(self, observations):
        self.events.append("act")
        self.calls.append(observations.copy())
        return member_rewards(observations)


def test_policies_are_called_with_one_shape_and_told_of_beginnings_and_rewards():
    recorder, ended = Recorder(), []
    evaluator = Evaluator(TASK, 2, 7, seed=0, maker=at_most(8))
    results = evaluator.run(recorder.policy, on_step=lambda step: ended.append(step.ended.sum()))
    lengths = results.lengths[0]
    assert len(set(lengths[:4])) > 1  # some of a batch end before others
    expected = []
    for batch in (lengths[:4], np.append(lengths[4:], 0)):  # the second has an empty place
        expected.append("begin")
        for step in range(batch.max()):
            rewards = np.where(step < batch, np.array([[1], [2]]) * step / 100, 0.0)
            expected += ["act", rewards]
    for event, right in zip(recorder.events, expected, strict=True):
        assert np.allclose(event, right) if isinstance(right, np.ndarray) else event == right
    assert {(call.shape, call.dtype) for call in recorder.calls} == {((2, 4, 2), np.dtype(np.float32))}
    last = recorder.calls[lengths[:4].max() - 1]
    stay = np.minimum(lengths[:4], lengths[:4].max() - 1)  # those that are over stay where they ended
    np.testing.assert_array_equal(last[0, :, 1], stay)
    np.testing.assert_array_equal(recorder.calls[-1][:, 3], 0.0)
    assert sum(ended) == 14


def jumpy(observations):
    """Actions in [-1, 1] by member; the last bit of a state soon shows."""
    members = np.arange(1.0, 1.0 + len(observations))[:, None, None]
    return 40 * members * observations[..., :2] % 2 - 1


def one_by_one(task, member, seed):
    """An episode's rewards, by the environment alone."""
    env, act = envs.make_environment(task), lambda seen: jumpy(np.tile(seen, (2, 1, 1)))[member, 0]
    observation, _ = env.reset(seed=seed)
    rewards, over = [], False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        rewards, over = [*rewards, reward], terminated or truncated
    return rewards


@pytest.mark.parametrize("num_threads", [1, 3])
def test_real_episodes_equal_lone_ones_to_the_bit(num_threads):
    task = get_task("pointmaze-umaze-v0")
    maker = envs.EnvironmentMaker(num_threads=num_threads, max_environments=4)
    evaluator = Evaluator(task, 2, 5, seed=7, maker=maker)
    results = evaluator.run(jumpy)
    evaluator.close()
    for member, episode in np.ndindex(2, 5):
        rewards = one_by_one(task, member, episode_seed(7, episode))
        assert results.returns[member, episode] == sum(rewards)
        assert results.lengths[member, episode] == len(rewards)
    assert len(np.unique(results.returns)) > 2


def test_policies_know_observations_and_rewards_transformed():
    recorder = Recorder()
    units = {"observation_mean": (1.0,), "observation_std": (1.0,), "reward_scale": 0.5, "reward_shift": -1.0}
    policy = prepared(with_memory_of(recorder.policy, recorder.act), Preprocessing(**units))
    policy.begin()
    policy(np.full((1, 2, 2), 3.0, np.float32))
    policy.remember(np.array([[4.0, 8.0]]))
    np.testing.assert_array_equal(recorder.calls, np.full((1, 1, 2, 2), 2.0))
    assert recorder.events[:2] == ["begin", "act"]
    np.testing.assert_array_equal(recorder.events[2], np.array([[1.0, 3.0]], np.float32), strict=True)


def test_in_the_kitchen_they_remember_the_datas_rewards(kitchen_file):
    """A demonstration is met again. Its environment rewards each task once, its data in each step."""
    with h5py.File(kitchen_file) as file:
        length = int(np.argmax(file["terminals"][()])) + 1
        observations, rewards = file["observations"][:length], file["rewards"][:length]
    once = np.maximum(np.diff(rewards, prepend=0.0), 0.0)
    assert once.sum() == 4.0 < rewards.sum()
    for task, expected in (("kitchen-complete-v0", rewards), ("", once)):
        recorder, buffer = Recorder(), np.empty((1, 1, observations.shape[-1]), np.float32)
        policy = prepared(recorder.policy, Preprocessing(rewards_as_in=task))
        policy.begin()
        for observation, reward in zip(observations, once, strict=True):
            buffer[:] = observation
            policy(buffer)
            buffer[:] = 0.0
            policy.remember(np.full((1, 1), reward))
        np.testing.assert_array_equal(np.ravel(recorder.events[2::2]), expected)
