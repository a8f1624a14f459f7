"""Episodes in a compiled environment, stepped all at once, against the same episodes one by one."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "envs"))

from jax_point_mass import PointMass

from xql_jax.rollout.evaluation import Evaluator, episode_seed
from xql_jax.rollout.policies import RecurrentPolicy
from xql_jax.tasks import get_task

TASK = get_task("jax_point_mass:PointMass")
GAINS = np.array([-1.0, 0.5, 3.0])  # of three members; the last is soon beyond 2, where an episode ends


def act(observations):
    return np.clip(GAINS[:, None, None] * observations[..., :1] + 0.1, -1.0, 1.0)


def one_by_one(member, seed):
    """Observations and rewards of an episode, by the environment alone."""
    environment = PointMass()
    state, observation = environment.reset(jax.random.key(seed))
    path, rewards, over = [observation], [], False
    while not over and len(rewards) < PointMass.episode_limit:
        state, (observation, reward, over) = environment.step(
            state, act(np.tile(path[-1], (3, 1, 1)))[member, 0]
        )
        path.append(observation)
        rewards.append(float(reward))
    return path, rewards


@pytest.mark.parametrize("max_environments", [None, 6])
def test_they_are_the_episodes_of_environments_one_by_one(max_environments):
    told, ended = [], []
    policy = RecurrentPolicy(act, lambda: told.append("begin"), lambda rewards: told.append(rewards.sum()))
    evaluator = Evaluator(TASK, 3, 5, seed=11, max_environments=max_environments)
    results = evaluator.run(policy, record_paths=True, on_step=lambda step: ended.append(step.ended.sum()))
    for member in range(3):
        for episode in range(5):
            path, rewards = one_by_one(member, episode_seed(11, episode))
            assert results.lengths[member, episode] == len(rewards)
            np.testing.assert_allclose(results.returns[member, episode], sum(rewards), rtol=1e-5)
            np.testing.assert_allclose(results.paths[member][episode], path, rtol=1e-5, atol=1e-6)
    assert results.successes is None
    assert sum(ended) == 15
    assert told.count("begin") == (1 if max_environments is None else 3)
    assert sum(reward for reward in told if reward != "begin") == pytest.approx(
        results.returns.sum(), rel=1e-6
    )
    assert results.lengths[0].tolist() == [20] * 5  # by time
    assert (results.lengths[2] < 20).all()  # by a terminal state
