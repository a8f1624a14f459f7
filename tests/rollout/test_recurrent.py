"""Policies with a memory: who runs episodes tells them of beginnings and rewards, in their own units."""

import h5py
import numpy as np
from gymnasium import spaces

from xql_jax import envs
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.rollout.policies import RecurrentPolicy, around, prepared
from xql_jax.rollout.video import record_video
from xql_jax.tasks import Task

TASK = Task("meter-v0", "fake", None, 0.0, 1.0, 4)


class Meter:
    """Runs for 1 to 4 steps by its seed; the n-th step pays 10 n plus the length."""

    observation_space = spaces.Box(0.0, 10.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    steps_per_second = 25.0

    def __init__(self, task=None):
        self.steps = self.length = 0

    def reset(self, *, seed=None):
        self.steps, self.length = 0, 1 + seed % 4
        return np.float32([self.steps]), {}

    def step(self, action):
        self.steps += 1
        return np.float32([self.steps]), 10.0 * self.steps + self.length, self.steps == self.length, False, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)

    def close(self):
        pass


class Told:
    """What a policy was told, in order."""

    def __init__(self):
        self.events = []
        self.policy = RecurrentPolicy(
            self.act,
            lambda: self.events.append("begin"),
            lambda rewards: self.events.append(rewards.copy()),
        )

    def act(self, observations):
        self.events.append("act")
        return np.zeros((*observations.shape[:2], 1), np.float32)


def test_the_evaluator_tells_of_batches_and_of_every_steps_rewards(monkeypatch):
    monkeypatch.setitem(envs.SUITES, "fake", envs.Suite(Meter))
    told = Told()
    results = Evaluator(TASK, 2, 7, seed=0, max_environments=8).run(told.policy)
    lengths = results.lengths[0]
    assert len(set(lengths[:4])) > 1  # some of a batch end before others
    expected = []
    for batch in (lengths[:4], np.append(lengths[4:], 0)):  # the second has an empty place
        expected.append("begin")
        for step in range(1, batch.max() + 1):
            rewards = np.where(step <= batch, 10.0 * step + batch, 0.0)
            expected += ["act", np.stack([rewards, rewards])]
    assert len(told.events) == len(expected)
    for event, right in zip(told.events, expected, strict=True):
        np.testing.assert_array_equal(event, right)


def test_so_does_a_video(tmp_path):
    told = Told()
    record_video(envs.Suite(Meter).vector_env(TASK, 1), told.policy, [1, 4], tmp_path / "policy.gif")
    steps = ["act", np.array([[12.0]]), "act", np.array([[22.0]])], ["act", np.array([[11.0]])]
    expected = ["begin", *steps[0], "begin", *steps[1]]
    assert len(told.events) == len(expected)
    for event, right in zip(told.events, expected, strict=True):
        np.testing.assert_array_equal(event, right)


def test_policies_know_observations_and_rewards_transformed():
    told, seen = Told(), []

    def look(observations):
        seen.append(observations)
        return told.act(observations)

    inner = around(told.policy, look)
    of_data = {
        "observation_mean": (1.0,),
        "observation_std": (1.0,),
        "reward_scale": 0.5,
        "reward_shift": -1.0,
    }
    policy = prepared(inner, Preprocessing(**of_data))
    policy.begin()
    policy(np.full((1, 2, 1), 3.0, np.float32))
    policy.remember(np.array([[4.0, 8.0]]))
    np.testing.assert_array_equal(seen, np.full((1, 1, 2, 1), 2.0))
    assert told.events[:2] == ["begin", "act"]
    np.testing.assert_array_equal(told.events[2], [[1.0, 3.0]])
    assert told.events[2].dtype == np.float32


def test_in_the_kitchen_they_remember_the_datas_rewards(kitchen_file):
    """A demonstration is met again. Its environment rewards each task once, its data in each step."""
    with h5py.File(kitchen_file) as file:
        length = int(np.argmax(file["terminals"][()])) + 1
        observations, rewards = file["observations"][:length], file["rewards"][:length]
    once = np.maximum(np.diff(rewards, prepend=0.0), 0.0)
    assert once.sum() == 4.0 < rewards.sum()
    for counts, expected in ((True, rewards), (False, once)):
        told, buffer = Told(), np.empty((1, 1, observations.shape[-1]), np.float32)
        policy = prepared(told.policy, Preprocessing(counts_kitchen_tasks=counts))
        policy.begin()
        for observation, reward in zip(observations, once, strict=True):
            buffer[:] = observation
            policy(buffer)
            buffer[:] = 0.0
            policy.remember(np.full((1, 1), reward))
        np.testing.assert_array_equal(np.ravel(told.events[2::2]), expected)
