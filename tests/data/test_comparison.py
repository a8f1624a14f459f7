"""Data and an environment are compared: whatever cannot be meant is named, whatever may be right is not."""

import contextlib
import dataclasses

import gymnasium as gym
import numpy as np
import pytest

from xql_jax.data.action_units import check_bounds, check_units, small_entries, small_units
from xql_jax.data.arrays import from_arrays
from xql_jax.data.comparison import Met, Ranges, first_rewards_told, observations_told
from xql_jax.data.online_rewards import difference_of_rewards
from xql_jax.envs.registered import Registered
from xql_jax.envs.vector import Local
from xql_jax.errors import UserError
from xql_jax.suites.tasks import OWN, RETURN_ITSELF, Task
from xql_jax.types import ActionBounds

EPISODES, LENGTH = 40, 50
INFINITE = np.full(5, np.inf)


def episodes(seed, starts=EPISODES):
    """f32[N, 5] of a walker: height 1.25, an angle and two velocities about 0 at resets, and the time."""
    random = np.random.default_rng(seed)
    steps = 0.05 * random.normal(size=(starts, LENGTH, 3)) + [0.0, 0.04, -0.02]
    steps[:, 0] = 0.005 * random.uniform(-1, 1, (starts, 3))
    walked = np.cumsum(steps, axis=1) * [0.3, 3.0, 8.0] + [1.25, 0.0, 0.0]
    speed = np.diff(walked[..., 1:2], axis=1, prepend=walked[:, :1, 1:2]) / 0.01
    time = np.broadcast_to(np.arange(LENGTH)[:, None] / LENGTH, (starts, LENGTH, 1))
    return np.concatenate([walked, speed, time], axis=2).astype(np.float32)


RESETS = episodes(1)[:32, 0]
ROWS = episodes(0)


def told(rows, low=-INFINITE, high=INFINITE, first=RESETS, explored=None):
    """What is told of episodes f32[E, T, O] beside this Box and an environment's first observations."""
    count = rows.shape[0] * rows.shape[1]
    ends = np.tile(np.arange(rows.shape[1]) == rows.shape[1] - 1, rows.shape[0])
    following = np.roll(rows, -1, axis=1)
    following[:, -1] = rows[:, -1]
    dataset = from_arrays(
        {
            "observations": rows.reshape(count, -1),
            "next_observations": following.reshape(count, -1),
            "actions": np.random.default_rng(0).uniform(-1, 1, (count, 1)).astype(np.float32),
            "rewards": np.zeros(count, np.float32),
            "terminals": np.zeros(count),
            "timeouts": ends,
        },
        "arrays",
    )
    ranges = Ranges.of_json(Ranges.of(dataset).as_json())  # as a run records them
    seen = first if explored is None else explored
    return observations_told(ranges, Met(np.float32(low), np.float32(high), first, lambda: seen), "env")


def normalised(rows):
    flat = rows.reshape(-1, rows.shape[-1])
    return np.clip((rows - flat.mean(0)) / flat.std(0), -10, 10)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (normalised, "VecNormalize"),
        (lambda rows: rows * np.float32(255), "scaled"),
        (lambda rows: rows / np.float32(255), "scaled"),
        (lambda rows: rows * np.float32(180 / np.pi), "57.5 times"),
        (lambda rows: rows[..., ::-1].copy(), "order"),
        (lambda rows: rows[..., [1, 0, 2, 3, 4]].copy(), "0 like 1"),
    ],
)
def test_other_observations_than_the_environments_are_named(change, why):
    [line] = told(change(ROWS))
    assert why in line


RIGHT = {
    "another policy": episodes(2) * np.float32([1, 1, 1, 1, 1]),
    "one episode": ROWS[:1],
    "three episodes": ROWS[:3],
    "rows in no order": np.random.default_rng(0).permutation(ROWS.reshape(-1, 5))[:, None],
    "a part of each episode": ROWS[:, 20:],
    "other starts": np.concatenate([ROWS[..., :1], ROWS[..., 1:2] + 3, ROWS[..., 2:]], axis=2),
    "a goal that stays": np.concatenate([ROWS, np.full_like(ROWS[..., :2], 2.0)], axis=2),
}


@pytest.mark.parametrize("rows", RIGHT.values(), ids=RIGHT)
def test_right_data_are_not(rows):
    first = RESETS
    if rows.shape[-1] > 5:  # the environment has other goals
        goals = np.random.default_rng(3).uniform(-4, 4, (32, 2)).astype(np.float32)
        first = np.concatenate([RESETS, goals], axis=1)
    assert not told(rows, *np.full((2, rows.shape[-1]), [[-np.inf], [np.inf]]), first=first)


def pendulum(seed, count=EPISODES):
    random = np.random.default_rng(seed)
    angles = random.uniform(-np.pi, np.pi, (count, 1)) + np.cumsum(
        random.normal(size=(count, LENGTH)), axis=1
    )
    speeds = np.clip(np.cumsum(random.uniform(-1, 1, (count, LENGTH)), axis=1), -8, 8)
    return np.stack([np.cos(angles), np.sin(angles), speeds], axis=2).astype(np.float32)


def test_a_finite_box_tells_where_first_observations_do_not():
    """Cosine, sine and speed are all within ±1 at first; only the Box tells of another order."""
    bounds, rows, first = np.float32([1, 1, 8]), pendulum(0), pendulum(1, 32)[:, 0]
    assert not told(rows, -bounds, bounds, first)
    [line] = told(rows[..., ::-1].copy(), -bounds, bounds, first)
    assert "(0)" in line
    assert "a Box of -1 to 1" in line
    assert told(normalised(rows), -bounds, bounds, first)
    assert told(rows * 20, -bounds, bounds, first)
    # Its own observations leave a Box that was written down carelessly.
    lazy = np.ones(3, np.float32)
    assert told(rows, -lazy, lazy, first)
    assert not told(rows, -lazy, lazy, first, explored=rows.reshape(-1, 3))


@pytest.mark.parametrize(
    ("data", "online", "why"),
    [
        (np.linspace(-2.25, -0.01, 500), np.linspace(-224, -0.6, 1000), "unit"),
        (np.linspace(-224, -0.6, 500), np.linspace(-2.25, -0.01, 1000), "unit"),
        (np.linspace(0, 1, 500), np.linspace(-1, 0, 1000), "sign"),
        (np.linspace(-16, 0, 500), np.linspace(0, 16, 1000), "sign"),
        (np.r_[np.zeros(900), np.ones(100)], np.full(1000, -1.0), "sign"),
        (np.r_[np.full(900, -1.0), np.zeros(100)], np.zeros(1000), "offset"),
        (np.linspace(5, 6, 500), np.linspace(-5, -4, 1000), "sign"),
        (np.linspace(10, 12, 500), np.linspace(0, 2, 1000), "offset"),
        (np.linspace(0, 100, 500), np.linspace(0, 1, 1000), "unit"),
    ],
)
def test_rewards_of_another_unit_sign_or_offset_are_named(data, online, why):
    assert why in difference_of_rewards(data, online)


@pytest.mark.parametrize(
    ("data", "online"),
    [
        (np.r_[np.zeros(900), np.ones(100)], np.zeros(1000)),  # sparse, not yet reached
        (np.r_[np.full(900, -1.0), np.zeros(100)], np.full(1000, -1.0)),
        (np.r_[np.full(900, -1.0), np.zeros(100)], np.r_[np.full(500, -1.0), np.zeros(500)]),
        (np.linspace(-1, 13, 500), np.linspace(-2, 1.5, 1000)),  # an expert's, and a worse policy's
        (np.linspace(0, 1, 500), np.linspace(0, 6, 1000) * (np.arange(1000) < 100)),  # a rare bonus
        (np.linspace(-16, 0, 500), np.r_[np.linspace(-9, 0, 300), np.zeros(700)]),  # a better one's
        (np.r_[np.ones(999), -100.0], np.ones(1000)),
        (np.ones(500), np.ones(1000)),
        (np.zeros(500), np.zeros(1000)),
    ],
)
def test_rewards_of_a_worse_or_better_policy_are_not(data, online):
    assert difference_of_rewards(data, online) == ""


@pytest.mark.parametrize(
    ("reach", "small"),
    [
        ([0.05, 0.05, 0.05], [0, 1, 2]),
        ([0.05, 1.0, 1.0], [0]),  # joints beside a gripper
        ([1.0, 1.0, 0.0], []),  # constant
        ([0.3, 0.4, 1.0], [0, 1]),
        ([1.0, 0.63, 0.64, 1, 1, 1, 1, 0.25, 0.28], []),  # people in D4RL's kitchen
    ],
)
def test_small_units_of_actions(reach, small):
    actions = np.random.default_rng(0).uniform(-1, 1, (500, len(reach))) * reach
    np.testing.assert_array_equal(small_entries(actions + 0.5), small)  # wherever the centre is
    arrays = {
        "observations": np.random.default_rng(1).normal(size=(500, 2)),
        "actions": actions,
        "rewards": np.zeros(500),
        "terminals": np.ones(500),
        "timeouts": np.zeros(500),
    }
    assert len(list(small_units(from_arrays(arrays, "arrays")))) == bool(small)


def test_bounds_of_actions_are_compared():
    two, five = ActionBounds((-2.0,), (2.0,)), ActionBounds((-5.0,), (5.0,))
    check_bounds(ActionBounds(), ActionBounds((-1.0,), (1.0,)), "run", "env")  # of a D4RL task
    check_bounds(two, ActionBounds((-2.0000001,), (2.0,)), "run", "env")
    with pytest.raises(UserError, match=r"-2 to 2 .* -5 to 5"):
        check_bounds(two, five, "run", "env")
    with pytest.raises(UserError, match=r"-1 to 1 .* -5 to 5"):
        check_bounds(ActionBounds(), five, "run", "env")
    check_units(ActionBounds((-0.9,), (1.0,)), two, "run", "env")  # ±1 is a share of the bounds
    with pytest.raises(UserError, match=r"-0.05 to 0.05 .* -2 to 2"):
        check_units(ActionBounds((-0.05,), (0.05,)), two, "run", "env")


class Walker(gym.Env):
    """The reward is 1 for standing, a speed that actions give, and their cost."""

    observation_space, action_space = (
        gym.spaces.Box(-np.inf, np.inf, (1,), np.float32),
        gym.spaces.Box(-1, 1, (1,), np.float32),
    )
    standing = 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.speed = 0.1 * self.np_random.normal()
        return np.float32([self.speed]), {}

    def step(self, action):
        self.speed += 0.5 * float(action[0])
        reward = self.standing + self.speed - 0.1 * float(action[0]) ** 2
        return np.float32([self.speed]), reward, False, False, {}


class Cheetah(Walker):
    standing = 0.0


def first_rewards(kind, policy):
    """A dataset of 50 episodes of three steps, whose later rewards are larger; by actions within ±policy."""
    env, random, rewards = kind(), np.random.default_rng(0), []
    for seed in range(50):
        env.reset(seed=seed)
        rewards += [env.step(random.uniform(-policy, policy, 1))[1], 5.0, 9.0]
    ends = np.arange(150) % 3 == 2
    walk = random.normal(size=(151, 1))
    rest = {"observations": walk[:-1], "actions": walk[1:].clip(-1, 1), "next_observations": walk[1:]}
    return from_arrays(rest | {"rewards": rewards, "terminals": ends}, "arrays")


@pytest.mark.parametrize(
    ("kind", "policy", "factor", "shift", "is_told"),
    [
        (Walker, 1.0, 1.0, 0.0, False),
        (Walker, 0.1, 1.0, 0.0, False),  # careful people
        (Walker, 1.0, 10.0, 0.0, True),
        (Walker, 1.0, 0.1, 0.0, True),
        (Walker, 1.0, 1.0, 20.0, True),
        (Cheetah, 1.0, 1.0, 0.0, False),
        (Cheetah, 0.05, 1.0, 0.0, False),
        (Cheetah, 1.0, 20.0, 0.0, True),
    ],
)
def test_first_rewards_tell_a_unit_whoever_acts(kind, policy, factor, shift, is_told):
    data = first_rewards(kind, policy)
    data = dataclasses.replace(data, batch=data.batch._replace(rewards=factor * data.batch.rewards + shift))
    task = Task("walker", OWN, None, *RETURN_ITSELF, episode_limit=None)
    with contextlib.closing(Local(lambda: Registered(task, kind(), longest=10), 3)) as env:
        assert bool(first_rewards_told(data, Met.of(env, range(32)), "env")) == is_told
