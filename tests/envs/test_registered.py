"""Environments of Gymnasium's registry: its MuJoCo tasks against Gymnasium itself, and users' own."""

import contextlib

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from own_maze import Line

from xql_jax.data.rows import read_rows
from xql_jax.envs import EnvironmentMaker, action_bounds
from xql_jax.envs.registered import Registered
from xql_jax.errors import UserError
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.suites.tasks import SUITES, References, get_task, referenced
from xql_jax.types import ActionBounds
from xql_jax.workshop.tools.collect import CollectionSettings, collect


@pytest.mark.parametrize("name", [task.name for task in SUITES["gymnasium"].tasks()])
def test_episodes_are_gymnasiums_bit_for_bit_whatever_came_before(name):
    env, raw = Registered(get_task(name)), gymnasium.make(name)
    reach = raw.action_space.high  # their bounds are symmetric
    np.testing.assert_array_equal(raw.action_space.low, -reach)
    bounds = action_bounds(get_task(name))
    for seed in (1, 0, 1):
        observation, _ = env.reset(seed=seed)
        np.testing.assert_array_equal(observation, raw.reset(seed=seed)[0].astype(np.float32))
        shape = 40, *env.action_space.shape
        for action in np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32):
            observation, reward, terminated, truncated, info = env.step(bounds.to_environment(action))
            theirs = raw.step(reach * action)  # what a policy within ±1 becomes
            np.testing.assert_array_equal(observation, theirs[0].astype(np.float32))
            assert (reward, terminated, truncated) == theirs[1:4]
            np.testing.assert_equal(info, theirs[4])  # which has arrays, too
            if terminated:
                break
    env.close()


def test_an_own_environments_score_and_spaces():
    task = get_task("own_maze:Line-v0")
    assert (task.suite.name, task.episode_limit, task.dataset_url) == ("own", 30, None)
    assert task.normalized_score(np.array([-7.0])) == [-7.0]
    assert referenced(task, References(-30.0, -10.0)).normalized_score(np.array([-15.0])) == [75.0]
    environment = Registered(task)
    assert environment.observation_space.shape == (2,)
    assert (environment.action_space.low, environment.action_space.high) == (-2.0, 4.0)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such_module:Line-v0", "the module 'no_such_module' does not import here: ModuleNotFoundError"),
        ("own_maze:Circle-v0", "nor is it there as an environment in JAX"),
        (
            "own_maze:Line",
            "gymnasium.register('Line-v0', entry_point='own_maze:Line', max_episode_steps=STEPS)",
        ),
        ("jax_point_mass:Endless", "episodes of None steps: give max_episode_steps (in JAX, episode_limit)"),
    ],
)
def test_mistakes(name, told):
    with pytest.raises(UserError) as raised:
        Registered(get_task(name))
    assert told in str(raised.value)


class Forgetful(Line):
    """Draws its starts from a generator of its own, whatever the seed."""

    def reset(self, *, seed=None, options=None):
        return super().reset(options=options)


WRAPPED = {
    "Plain": (lambda: Line(), False),
    "Forgetful": (Forgetful, True),
    "Seen": (lambda: NormalizeObservation(Line()), True),
    "Earned": (lambda: NormalizeReward(Line()), True),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_an_environment_whose_seed_does_not_determine_the_episode_is_warned_of(name, caplog, tmp_path):
    make, is_warned_of = WRAPPED[name]
    gymnasium.register(f"{name}-v0", make, max_episode_steps=30)
    task = get_task(f"test_registered:{name}-v0")

    def returns(number):
        evaluator = Evaluator(task, 1, 4, 0, EnvironmentMaker(max_environments=number))
        with contextlib.closing(evaluator):
            return evaluator.run(lambda seen: 1.0 - seen[..., :1]).returns

    depends_on_number = not np.array_equal(returns(1), returns(4))
    assert depends_on_number == is_warned_of
    wanted = {"env_name": task.name, "policy": "random", "episodes": 1, "output": f"{tmp_path}/d.hdf5"}
    collect(CollectionSettings(**wanted, tqdm=False))
    assert caplog.text.count("two episodes from one seed differ") == 3 * is_warned_of
    assert ("one seed differ" in read_rows(tmp_path / "d.hdf5")[1]["warnings"]) == is_warned_of


@pytest.mark.parametrize("value", [-1.0, 1.0, 0.9999999])
def test_actions_lie_within_bounds_that_are_no_float32(value):
    """float32(-0.3) is below -0.3, and float32(0.1) above 0.1; 0.25 is exact; 0.7 is fixed."""
    space = spaces.Box(np.array([-0.3, 0.25, 0.7]), np.array([0.1, 4.7, 0.7]), dtype=np.float64)
    bounds = ActionBounds.of(space)
    action = np.float64(bounds.to_environment(np.full(3, value, np.float32)))
    assert spaces.Box(space.low[:2], space.high[:2], dtype=np.float64).contains(action[:2])
    np.testing.assert_allclose(np.array(bounds), [space.low, space.high], rtol=2e-7)
    assert bounds.low[1] == 0.25
    assert ActionBounds.of(spaces.Box(-2, 2, (1,))) == ((-2.0,), (2.0,))
