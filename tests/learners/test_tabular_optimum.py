"""On a small MDP, with tabular networks, the learners reach the values that theory gives for the dataset."""

import numpy as np
import pytest
from tabular_runs import DISCOUNT, learnt_policy, learnt_q, learnt_v, one_hot_batch, train

from xql_jax.theory.soft_mdp import SoftMDP, value_iteration

STATES, ACTIONS = 6, 3
SHAPE = {"num_states": STATES + 1, "num_actions": ACTIONS}  # the last state is the terminal one


def make_dataset():
    """Transitions (s, a, r, s') of a stochastic MDP, actions unequally often, one of them never."""
    generator = np.random.default_rng(0)
    dynamics = generator.dirichlet(np.full(STATES + 1, 0.4), (STATES, ACTIONS))
    rewards = generator.uniform(-1.0, 3.0, (STATES, ACTIONS))
    counts = generator.integers(1, 6, (STATES, ACTIONS))
    counts[2, 1], rewards[2, 1] = 0, 100.0
    states, actions = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    next_states = [
        generator.choice(STATES + 1, p=dynamics[pair]) for pair in zip(states, actions, strict=True)
    ]
    return states, actions, rewards[states, actions], np.array(next_states)


S, A, R, NEXT = make_dataset()
BATCH = one_hot_batch(S, A, R, NEXT, num_states=STATES, num_actions=ACTIONS)


def soft_optimum(beta):
    mdp = SoftMDP.from_transitions(S, A, R, NEXT, **SHAPE, discount=DISCOUNT, beta=beta)
    solution = value_iteration(mdp, 1e-9)
    return mdp, solution.v, solution.q


# At beta 0.5 some z lie below -7 at the optimum. The paper's clip would take their gradient away and raise V;
# a clip of 30 leaves them alone, as does the authors' one-sided clip at any width.
@pytest.mark.parametrize(
    ("loss", "beta", "clip_rule", "clip"),
    [
        *((loss, beta, "both", 30.0) for loss in ("plain", "rescaled", "log") for beta in (0.5, 4.0)),
        ("rescaled", 0.5, "above", 7.0),
    ],
)
def test_xql_reaches_the_soft_optimum(loss, beta, clip_rule, clip):
    mdp, v, q = soft_optimum(beta)
    actor = {"awr_temperature": 1 / beta, "max_weight": float("inf")}
    learner, state = train("xql", BATCH, loss=loss, beta=beta, clip=clip, clip_rule=clip_rule, **actor)
    np.testing.assert_allclose(learnt_v(state), v[:STATES], atol=0.01 * np.ptp(v[:STATES]))
    np.testing.assert_allclose(learnt_q(state, BATCH), q[S, A], atol=0.01 * np.ptp(q[S, A]))
    policy = mdp.policy(q, v)[:STATES]
    np.testing.assert_allclose(learnt_policy(learner, state, ACTIONS), policy, atol=0.01)


def test_the_two_betas_and_the_mean_are_told_apart():
    # Otherwise the test above would pass with a wrong beta.
    small, large, mean = (soft_optimum(beta)[1][:STATES] for beta in (0.5, 4.0, 1e6))
    assert np.abs(small - large).max() > 0.2 * np.ptp(small)
    assert np.abs(large - mean).max() > 0.2 * np.ptp(large)


def expectile_of(x, expectile):
    """By bisection: the v where expectile * E[(x - v)+] = (1 - expectile) * E[(v - x)+]."""
    low, high = x.min(), x.max()
    for _ in range(60):
        v = (low + high) / 2
        rises = expectile * np.maximum(x - v, 0).sum() > (1 - expectile) * np.maximum(v - x, 0).sum()
        low, high = (v, high) if rises else (low, v)
    return v


@pytest.mark.parametrize("expectile", [0.5, 0.9])
def test_iql_reaches_the_expectile_fixed_point(expectile):
    mdp = SoftMDP.from_transitions(S, A, R, NEXT, **SHAPE, discount=DISCOUNT, beta=1.0)
    v = np.zeros(STATES + 1)
    for _ in range(150):
        q = mdp.backup(v)[S, A]
        v = np.array([*(expectile_of(q[s == S], expectile) for s in range(STATES)), 0.0])
    _, state = train("iql", BATCH, expectile=expectile)
    np.testing.assert_allclose(learnt_v(state), v[:STATES], atol=0.01 * np.ptp(v[:STATES]))
    np.testing.assert_allclose(learnt_q(state, BATCH), q, atol=0.01 * np.ptp(q))
