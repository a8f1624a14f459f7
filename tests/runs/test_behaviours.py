"""Collected episodes against an environment and policies whose numbers tell what happened."""

import contextlib

import numpy as np
import pytest
from gymnasium import spaces

from xql_jax.data.rows import ends_of
from xql_jax.envs import EnvironmentMaker
from xql_jax.suites.tasks import get_task
from xql_jax.workshop.tools import behaviours
from xql_jax.workshop.tools.behaviours import Amount, Behaviour, collecting_env, episodes_of

TASK = get_task("pointmaze-umaze-v0")
LIMIT = 6


def last_step(number):
    return 2 + number % 7


class Counting:
    """Sees its step and its start's number; terminal at a step that the start says, else ended by a limit."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    steps_per_second = 1.0

    def reset(self, *, seed=None):
        self._state, self._last = np.array([0.0, seed % 1000], np.float32), last_step(seed % 1000)
        return self._state.copy(), {}

    def step(self, action):
        assert action.dtype == np.float32
        self._state[0] += 1
        terminal = self._state[0] == self._last
        return self._state.copy(), float(action[0]), bool(terminal), bool(self._state[0] == LIMIT), {}

    def close(self):
        pass


MAKER = EnvironmentMaker(lambda task: Counting())
RANDOM = Behaviour("random", "", lambda _, numbers: 2 * numbers.uniform - 1)


def constant(value):
    return Behaviour(f"{value}", "", lambda seen, numbers: np.full(numbers.normal.shape, value))


def rows_of(number, unit="episode", behaviour=RANDOM, seed=3, maker=MAKER, noise=0.0):
    with contextlib.closing(collecting_env(TASK, maker)) as env:
        return episodes_of(behaviour._replace(noise=noise), env, seed, Amount(number, unit))


def assert_same(rows, others):
    assert {key: array.tobytes() for key, array in rows.items()} == {
        key: array.tobytes() for key, array in others.items()
    }


def test_terminals_time_outs_and_next_observations_are_the_environments():
    rows = rows_of(60)
    stops = np.flatnonzero(ends_of(rows)) + 1
    assert len(stops) == 60
    for start, stop in zip([0, *stops[:-1]], stops, strict=True):
        steps, number = np.arange(stop - start), rows["observations"][start, 1]
        np.testing.assert_array_equal(rows["observations"][start:stop, 0], steps)
        np.testing.assert_array_equal(rows["next_observations"][start:stop, 0], steps + 1)
        np.testing.assert_array_equal(rows["observations"][start:stop, 1], number)
        np.testing.assert_array_equal(rows["next_observations"][start:stop, 1], number)
        assert not ends_of(rows)[start : stop - 1].any()
        # A terminal at the limit is a terminal, and no time-out.
        assert stop - start == min(last_step(number), LIMIT)
        assert rows["terminals"][stop - 1] == (last_step(number) <= LIMIT)
        assert rows["timeouts"][stop - 1] == (last_step(number) > LIMIT)
    assert rows["terminals"].any()
    assert rows["timeouts"].any()
    np.testing.assert_array_equal(rows["rewards"], rows["actions"][:, 0])
    assert {array.dtype.str for array in rows.values()} == {"<f4", "|b1"}


def test_an_episode_depends_on_the_seed_and_its_number_alone(monkeypatch):
    whole = rows_of(40)
    monkeypatch.setattr(behaviours, "AT_ONCE", 3)
    assert_same(rows_of(40), whole)
    few = rows_of(5)
    assert_same(few, {key: array[: len(few["rewards"])] for key, array in whole.items()})
    threads = EnvironmentMaker(MAKER.make, num_threads=4)
    assert_same(rows_of(40, maker=threads), whole)
    assert (rows_of(40, seed=4)["observations"][0] != whole["observations"][0]).any()
    starts = np.flatnonzero(whole["observations"][:, 0] == 0)
    assert len(np.unique(whole["observations"][starts, 1])) > 30  # of 40 numbers below 1,000
    assert len(np.unique(whole["actions"])) == whole["actions"].size


def test_noise_has_its_standard_deviation_and_is_clipped():
    actions = rows_of(3_000, behaviour=constant(0.0), noise=0.2)["actions"]
    assert np.std(actions) == pytest.approx(0.2, rel=4 / np.sqrt(2 * actions.size))
    assert abs(np.corrcoef(actions.T)[0, 1]) < 4 / np.sqrt(len(actions))
    assert rows_of(50, behaviour=constant(0.9), noise=0.5)["actions"].max() == 1.0
