"""Onestep RL on a stochastic MDP, with tabular networks: what it learns, against exact values."""

import jax
import numpy as np
import pytest
from learner_runs import flat, init, make, make_batch, update
from linear_runs import transition
from online_runs import linear_critics
from tabular_runs import (
    ACTIONS,
    COUNTS,
    DISCOUNT,
    SHAPE,
    learnt_policy,
    learnt_q,
    one_hot_batch,
    stochastic,
    train,
)  # fmt: skip

from xql_jax.theory.soft_mdp import SoftMDP

TEMPERATURE = 0.5
BEHAVIOR = COUNTS / COUNTS.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def run():
    """The data, their empirical MDP, and the learner with its last state."""
    data = stochastic()
    batch = one_hot_batch(*data, **SHAPE)
    config = {"awr_temperature": TEMPERATURE, "max_weight": float("inf"), "value_actions": 30}
    mdp = SoftMDP.from_transitions(*data[:4], **SHAPE, discount=DISCOUNT, beta=1 / TEMPERATURE)
    return data, batch, mdp, *train("onestep", batch, **config)


@pytest.fixture(scope="module")
def exact(run):
    """The behaviour's V and Q."""
    mdp = run[2]
    v = mdp.expected_returns(BEHAVIOR)
    return v, mdp.backup(v)


@pytest.mark.slow
def test_q_is_the_behaviours(run, exact):
    """Within 1%; and nowhere near that of the best policy, or of the policy that is learnt."""
    data, batch, mdp, _, state = run
    q = exact[1][data[0], data[1]]
    np.testing.assert_allclose(learnt_q(state, batch), q, atol=0.01 * np.ptp(q))
    improved = mdp.backup(mdp.expected_returns(improvement(*exact)))[data[0], data[1]]
    assert np.abs(improved - q).max() > 0.1 * np.ptp(q)


def improvement(v, q):
    weights = BEHAVIOR * np.exp(TEMPERATURE * (q - v[:, None]))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.slow
def test_the_clone_is_the_behaviour(run):
    _, _, _, learner, state = run
    cloned = learnt_policy(learner, state.replace(policy=state.behavior), ACTIONS)
    np.testing.assert_allclose(cloned, BEHAVIOR, atol=0.01)


@pytest.mark.slow
def test_the_policy_is_one_step_of_improvement(run, exact):
    """mu exp(T (Q - V)), normalised: the policy that is nearest in KL, with Q the behaviour's."""
    _, _, _, learner, state = run
    policy = improvement(*exact)
    np.testing.assert_allclose(learnt_policy(learner, state, ACTIONS), policy, atol=0.02)
    assert np.abs(policy - BEHAVIOR).max() > 0.1


def test_q_and_the_clone_know_nothing_of_the_policy():
    """What the authors train in phases can be trained at once: nothing flows back from the policy."""
    batch, kept = make_batch(), []
    for temperature in (0.0, 10.0):
        learner = make("onestep", awr_temperature=temperature)
        state = init(learner, batch)
        for step in range(3):
            state, metrics = update(learner, state, batch, jax.random.key(step))
        assert np.isfinite(metrics["behavior/log_prob"])
        kept.append((flat(state.critic), flat(state.behavior), flat(state.policy.params)))
    (critic, behavior, policy), others = kept
    np.testing.assert_array_equal(critic, others[0])
    np.testing.assert_array_equal(behavior, others[1])
    assert np.abs(policy - others[2]).max() > 1e-5


def test_the_advantage_is_over_the_clone():
    """Not over the policy: the policy may be any, and the advantages stay."""
    learner, batch = make("onestep"), make_batch()
    state = init(learner, batch)
    elsewhere = state.replace(policy=jax.tree.map(lambda leaf: leaf + 0.3, state.policy))
    others = state.replace(behavior=jax.tree.map(lambda leaf: leaf + 0.3, state.behavior))
    means = [
        float(update(learner, start, batch, jax.random.key(0))[1]["actor/advantage"])
        for start in (state, elsewhere, others)
    ]
    assert means[0] == means[1]
    assert abs(means[0] - means[2]) > 1e-3


def test_the_target_is_at_the_target_network_and_the_datas_next_action():
    """Q is a, and 0.5 for the data's action; the target network has 4 + 10 a, 1 for the next action."""
    batch = transition([[1.0]], [[0.5]], [1.0], [[1.0]], [[-0.3]], [1.0])
    learner = make("onestep", (), discount=0.5)
    state = init(learner, batch)
    critic = state.critic.replace(
        params=linear_critics(np.array([[0.0]]), np.array([[1.0]])),
        target=linear_critics(np.array([[4.0]]), np.array([[10.0]])),
    )
    _, metrics = update(learner, state.replace(critic=critic), batch, jax.random.key(0))
    np.testing.assert_allclose(metrics["critic/loss"], (0.5 - (1.0 + 0.5 * 1.0)) ** 2, rtol=1e-5)
