"""The adapter of D4RL's own environments against the package itself, by PyBullet's hopper."""

import sys

import numpy as np
import pytest

from xql_jax.envs import Simulation, environment_maker
from xql_jax.envs.d4rl_backend import D4RLEnvironment
from xql_jax.errors import UserError
from xql_jax.suites import Suite, Task
from xql_jax.suites.tasks import get_task

pytestmark = pytest.mark.usefixtures("d4rl_package")


def test_episode_is_that_of_the_package():
    import gym

    suite = Suite("bullet", config="mujoco", environment="", is_in_d4rl=True)  # needs no mujoco-py
    task = Task("bullet-hopper-medium-v0", suite, None, None, None, 1000)
    ours, theirs = D4RLEnvironment(task), gym.make(task.name, disable_env_checker=True)
    theirs.seed(3)
    actions = np.random.default_rng(0).uniform(-1, 1, (1000, 3))
    start, _ = ours.reset(seed=3)
    np.testing.assert_array_equal(start, theirs.reset())
    for action in actions:
        observation, reward, terminated, truncated, _ = ours.step(action)
        their_observation, their_reward, done, _ = theirs.step(action)
        np.testing.assert_array_equal(observation, their_observation)
        assert (reward, terminated, truncated) == (their_reward, done, False)
        if done:
            break
    ours.close()
    theirs.close()
    assert done  # it falls within a few steps


NEEDS = r"{} \(suite {}\) needs MuJoCo 2.1 and mujoco-py, which do not work here: leave out --env_backend"
UNHAVABLE = {
    "hopper-medium-v2": NEEDS.format("hopper-medium-v2", "locomotion"),
    "kitchen-mixed-v0": NEEDS.format("kitchen-mixed-v0", "kitchen"),
    "maze2d-umaze-v1": NEEDS.format("maze2d-umaze-v1", "maze2d"),
    "pointmaze-umaze-v0": "pointmaze-umaze-v0 is not D4RL's: leave out --env_backend=d4rl",
}


@pytest.mark.parametrize(("name", "told"), UNHAVABLE.items())
def test_says_what_is_not_here_before_anything_is_made(name, told, monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_py", None)
    with pytest.raises(UserError, match=told):
        environment_maker(get_task(name), Simulation("d4rl"))
