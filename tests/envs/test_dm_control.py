"""The wrapped tasks of dm_control.suite against the suite itself, bit for bit."""

import dataclasses
import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from dm_control import suite
from dm_control.rl import control
from dm_control.rl.control import flatten_observation

from xql_jax.envs.dm_control import DMControl
from xql_jax.suites.tasks import get_task

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
NAMES = ["-".join(pair) for pair in suite.ALL_TASKS if pair[0] != "lqr"]
# Much used tasks, and those whose starts alter the model: terrain, targets, gains.
SOME = [
    "cheetah-run", "walker-run", "hopper-hop", "quadruped-escape", "cartpole-swingup", "ball_in_cup-catch",
    "point_mass-hard", "humanoid_CMU-stand",
]  # fmt: skip


def wrapped(name, episode_limit=1000):
    return DMControl(dataclasses.replace(get_task(name), episode_limit=episode_limit))


@pytest.mark.parametrize("name", [name if name in SOME else slow(name) for name in NAMES])
def test_episodes_are_the_suites_bit_for_bit_whatever_came_before(name):
    env = wrapped(name)
    for seed in (3, 2**32 - 1):
        raw = suite.load(*name.split("-"), task_kwargs={"random": seed})  # as its users do
        theirs = raw.reset()
        observation, _ = env.reset(seed=seed)
        np.testing.assert_array_equal(observation, flattened(theirs))
        bounds = raw.action_spec()
        middle, reach = (bounds.maximum + bounds.minimum) / 2, (bounds.maximum - bounds.minimum) / 2
        shape = 15, *env.action_space.shape
        for action in np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32):
            theirs = raw.step(middle + reach * action)
            observation, reward, terminated, truncated, info = env.step(action)
            np.testing.assert_array_equal(observation, flattened(theirs))
            assert observation.dtype == np.float32
            assert (reward, terminated, truncated, info) == (theirs.reward, False, False, {})
            assert 0 <= reward <= 1
        np.testing.assert_array_equal(env.physics.get_state(), raw.physics.get_state())
    assert type(env._environment.task).get_termination is control.Task.get_termination  # there is none
    env.close()


def flattened(moment):
    """The suite's own flattening."""
    return flatten_observation(moment.observation)["observations"].astype(np.float32)


WITHOUT_OPENGL = """
from test_dm_control import wrapped
env = wrapped("quadruped-escape")
env.reset(seed=1)
print(env.reset(seed=8)[0].tolist())
"""


def test_the_terrain_needs_no_opengl_and_is_the_same_in_another_process():
    """The suite's own environment would raise there, at the first reset that draws the terrain up."""
    env = wrapped("quadruped-escape")
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPENGL],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=os.path.dirname(__file__),
        env={**os.environ, "MUJOCO_GL": "disabled"},
    )
    assert run.stdout.strip() == str(env.reset(seed=8)[0].tolist())


def test_regulators_have_unbounded_actuators_and_terminate_at_rest():
    env = wrapped("lqr-lqr_6_2")
    env.reset(seed=0)
    env.step(np.array([-0.25, 1.0], np.float32))
    assert env.physics.control().tolist() == [-0.25, 1.0]
    env = wrapped("lqr-lqr_2_1", episode_limit=1)
    env.reset(seed=0)
    assert env.step(np.zeros(1))[2:4] == (False, True)
    env.reset(seed=0)
    with env.physics.reset_context():
        env.physics.data.qpos[:] = 1e-9
    assert env.step(np.zeros(1))[2:4] == (True, False)  # a terminal state at the limit is terminal


def test_a_simulation_that_fails_says_so():
    env = wrapped("cheetah-run")
    env.reset(seed=0)
    with pytest.raises(control.PhysicsError, match="mjWARN_BADCTRL"):
        env.step(np.full(6, np.nan))
