"""A user's own environment: its spaces made the project's, and what is told where it is unfit."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from own_maze import Line

from xql_jax.envs import make_environment
from xql_jax.errors import UserError
from xql_jax.tasks import References, get_task, referenced


@pytest.fixture
def environment():
    env = make_environment(get_task("own_maze:Line-v0"))
    yield env
    env.close()


def test_spaces_and_steps(environment):
    """Against the environment itself, whose actions are from -2 to 4."""
    assert environment.observation_space.shape == (2,)
    assert (environment.action_space.low, environment.action_space.high) == (-1.0, 1.0)
    theirs = Line()
    observation, _ = environment.reset(seed=3)
    expected, _ = theirs.reset(seed=3)
    assert observation.dtype == np.float32
    for action, own in ((0.0, 1.0), (-1.0, -2.0), (1.0, 4.0), (5.0, 4.0)):
        np.testing.assert_allclose(observation, expected.ravel(), rtol=1e-6)
        observation, reward, terminated, truncated, info = environment.step(np.array([action], np.float32))
        expected, their_reward, their_end, _, _ = theirs.step(np.array([own], np.float32))
        assert (reward, terminated, truncated) == (pytest.approx(their_reward), their_end, False)
        assert info == {"success": their_end}


def test_scores_are_returns_or_by_references():
    task = get_task("own_maze:Line-v0")
    assert (task.suite, task.episode_limit, task.dataset_url) == ("own", 30, None)
    assert task.normalized_score(np.array([-7.0])) == [-7.0]
    assert referenced(task, References(-30.0, -10.0)).normalized_score(np.array([-15.0])) == [75.0]


def test_a_module_in_the_current_folder(tmp_path, monkeypatch):
    shutil.copy(Path(__file__).with_name("own_maze.py"), tmp_path / "of_the_folder.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert get_task("of_the_folder:Line-v0").episode_limit == 30


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such_module:Line-v0", "the module 'no_such_module' does not import here: ModuleNotFoundError"),
        ("own_maze:Circle-v0", "own_maze registers no such environment"),
        ("own_maze:Endless-v0", "register it with max_episode_steps"),
        ("own_maze:Discrete-v0", "its actions are Discrete(2), and must be a Box"),
    ],
)
def test_mistakes(name, told):
    with pytest.raises(UserError) as raised:
        make_environment(get_task(name))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_pictures(environment):
    with pytest.raises(UserError, match="not registered with render_mode='rgb_array'"):
        environment.render()
