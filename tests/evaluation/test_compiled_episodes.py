"""Episodes stepped all at once against the same episodes one by one."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "envs"))

from jax_point_mass import PointMass

from xql_jax.evaluation.compiled import CompiledWave, make_evaluator
from xql_jax.evaluation.policies import Remembering
from xql_jax.evaluation.rollout import Evaluator, episode_seed
from xql_jax.evaluation.waves import HostWave
from xql_jax.tasks import get_task

TASK = get_task("jax_point_mass:PointMass")
GAINS = np.array([-1.0, 0.5, 3.0])  # of three members; the last is soon beyond 2, where an episode ends


def act(observations):
    return np.clip(GAINS[:, None, None] * observations[..., :1] + 0.1, -1.0, 1.0)


def evaluate(kind, max_environments=None, **options):
    evaluator = kind(TASK, 3, 5, seed=11, max_environments=max_environments)
    try:
        return evaluator.run(act, record_paths=True, **options)
    finally:
        evaluator.close()


@pytest.fixture(scope="module")
def one_by_one():
    return evaluate(Evaluator)


@pytest.mark.parametrize("max_environments", [None, 6, 1])
def test_they_are_the_episodes_of_environments_one_by_one(one_by_one, max_environments):
    ended = []
    results = evaluate(make_evaluator, max_environments, on_ended=ended.append)
    np.testing.assert_array_equal(results.lengths, one_by_one.lengths)
    np.testing.assert_allclose(results.returns, one_by_one.returns, rtol=1e-5)
    assert results.successes is None
    assert sum(ended) == 15
    for ours, theirs in zip(results.paths, one_by_one.paths, strict=True):
        for our_path, their_path in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(our_path, their_path, rtol=1e-5, atol=1e-6)
    assert results.lengths[0].tolist() == [20] * 5  # by time
    assert (results.lengths[2] < 20).all()  # by a terminal state


def test_all_members_see_the_starts_of_the_seed(one_by_one):
    for episode in range(5):
        start = PointMass().reset(jax.random.key(episode_seed(11, episode)))[1]
        for member in range(3):
            np.testing.assert_allclose(one_by_one.paths[member][episode][0], start, rtol=1e-6)


def test_a_memory_is_told_of_rewards():
    told = []
    evaluator = make_evaluator(TASK, 3, 5, seed=11)
    policy = Remembering(act, lambda: told.append("begin"), lambda rewards: told.append(rewards.copy()))
    results = evaluator.run(policy)
    assert told[0] == "begin"
    np.testing.assert_allclose(sum(told[1:]), results.returns, rtol=1e-6)


def test_bad_actions_are_told():
    evaluator = make_evaluator(TASK, 3, 5, seed=11)
    with pytest.raises(ValueError, match=r"not \(3, 5, 1\)"):
        evaluator.run(lambda observations: np.zeros((3, 5, 2)))
    with pytest.raises(FloatingPointError, match="member 0 returned a non-finite action in episode 0"):
        evaluator.run(lambda observations: np.full((3, 5, 1), np.nan))


def test_the_kind_of_environment_decides():
    evaluators = [make_evaluator(get_task(name), 1, 1, 0) for name in ("pendulum-swingup", TASK.name)]
    assert [type(evaluator._wave) for evaluator in evaluators] == [HostWave, CompiledWave]
    assert (evaluators[1].observation_dim, evaluators[1].action_dim) == (2, 1)
