"""Environments in JAX: steps and restarts of many against NumPy, and what is told where one is unfit."""

import functools
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_point_mass import FRICTION, PUSH, Breaking, PointMass

from xql_jax.envs import compiled, environment_maker
from xql_jax.envs.compiled import compiled_environment
from xql_jax.errors import UserError
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.suites.tasks import get_task

KEY = jax.random.key(5)
N, STEPS = 4, 50
# By environment: some drift, one is pushed beyond 2, one stands still until its time is over.
ACTIONS = np.random.default_rng(0).uniform(-1.0, 1.0, (STEPS, N, 1)).astype(np.float32)
ACTIONS[:, 1], ACTIONS[:, 2] = 1.0, 0.0


def start_of(number, episode):
    key = jax.random.fold_in(jax.random.fold_in(KEY, number), episode)
    return np.asarray(PointMass().reset(key)[1])


def simulated(number):
    """What environment `number` does: rows (observation, reward, mask, next observation, ended), by NumPy."""
    episode, length, (position, velocity) = 0, 0, start_of(number, 0)
    for action in ACTIONS[:, number, 0]:
        before = position, velocity
        velocity = FRICTION * velocity + PUSH * action
        position = position + velocity
        length += 1
        terminal = abs(position) > 2.0
        ended = terminal or length == PointMass.episode_limit
        yield before, 1.0 - abs(position), 1.0 - terminal, (position, velocity), ended
        if ended:
            episode, length = episode + 1, 0
            position, velocity = start_of(number, episode)


def many_steps(environment, count=STEPS):
    episodes = compiled.begin(environment, KEY, jnp.zeros(N, jnp.int32))
    step = jax.jit(functools.partial(compiled.step, environment))
    rows = []
    for actions in ACTIONS[:count]:
        episodes, *row = step(episodes, jnp.asarray(actions), KEY)
        rows.append(row)
    return episodes, jax.tree.map(lambda *fields: np.stack(fields), *rows)


def test_transitions_and_episodes_are_those_of_a_simulation_in_numpy():
    episodes, (transitions, ended) = many_steps(PointMass())
    for number in range(N):
        expected = [np.array(column) for column in zip(*simulated(number), strict=True)]
        found = (*(field[:, number] for field in transitions), ended.now[:, number])
        observations, actions, rewards, masks, following, over = found
        for ours, theirs in zip((observations, rewards, masks, following, over), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(actions, ACTIONS[:, number])
    # A terminal state has a mask of 0; a time limit ends an episode and has a mask of 1.
    assert (transitions.masks[ended.now[:, 1], 1] == 0.0).all()
    assert ended.now[:, 1].sum() >= 3
    assert np.flatnonzero(ended.now[:, 2]).tolist() == [19, 39]
    assert (transitions.masks[:, 2] == 1.0).all()
    for number in range(N):
        stops = np.flatnonzero(ended.now[:, number]) + 1
        parts = np.split(transitions.rewards[:, number], stops)
        np.testing.assert_allclose(
            ended.returns[stops - 1, number], [part.sum() for part in parts[:-1]], rtol=1e-5
        )
        assert ended.lengths[stops - 1, number].tolist() == [len(part) for part in parts[:-1]]
        assert episodes.lengths[number] == len(parts[-1])
        np.testing.assert_allclose(episodes.returns[number], parts[-1].sum(), rtol=1e-5, atol=1e-6)
    assert episodes.numbers.tolist() == ended.now.sum(0).tolist()


def test_where_the_simulation_fails_the_episode_ends():
    episodes, (transitions, ended) = many_steps(Breaking(), count=6)
    assert all(np.isfinite(field).all() for field in transitions)
    assert ended.failed.sum(0).tolist() == [1] * N
    np.testing.assert_array_equal(ended.failed[4], True)
    np.testing.assert_array_equal(transitions.masks[4], 0.0)
    np.testing.assert_array_equal(transitions.rewards[4], 0.0)
    np.testing.assert_array_equal(transitions.next_observations[4], transitions.observations[4])
    np.testing.assert_array_equal(episodes.numbers, 1)
    np.testing.assert_array_equal(episodes.lengths, 1)


def test_an_evaluation_says_that_the_simulation_broke(caplog):
    task = get_task("jax_point_mass:Breaking")
    evaluator = Evaluator(task, 1, 3, 0, environment_maker(task))
    results = evaluator.run(lambda observations: np.zeros((*observations.shape[:2], 1), np.float32))
    np.testing.assert_array_equal(results.lengths, [[5, 5, 5]])
    assert [line for line in caplog.messages if "the simulation broke in 3 evaluated episode(s)" in line]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Misshapen", r"differ in leaves 'observation of reset': shapes: \(2,\) != \(3,\)"),
        ("Growing", "trees 0 and 1 do not match.*'state of step': {'point'"),
    ],
)
def test_an_unfit_environment_is_told(name, told):
    with pytest.raises(UserError, match=told):
        compiled_environment(get_task(f"jax_point_mass:{name}"))


def test_the_environment_of_the_guide(tmp_path, monkeypatch):
    guide = (Path(__file__).resolve().parents[2] / "docs" / "online.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "docking_of_the_guide.py").write_text(example)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    environment = compiled_environment(get_task("docking_of_the_guide:Docking"))
    episodes = compiled.begin(environment, KEY, jnp.zeros(2, jnp.int32))
    _, transitions, _ = compiled.step(environment, episodes, jnp.ones((2, 1)), KEY)
    places = np.asarray(episodes.observations)[:, 0] + 0.1
    np.testing.assert_allclose(transitions.next_observations, np.stack([places, [0.1, 0.1]], 1), rtol=1e-6)
    np.testing.assert_allclose(transitions.rewards, 1.0 - np.abs(places), rtol=1e-6)
