"""The Bellman error on exact values of a policy, and on those of Lemma C.1's loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xql_jax.theory.error_model import bellman_error, printed_bellman_error
from xql_jax.theory.soft_mdp import SoftMDP, q_iteration

instances = settings(max_examples=200, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
discounts = st.integers(5, 95).map(lambda percent: percent / 100)


def deterministic_mdp(seed, **fields):
    return SoftMDP.random(
        np.random.default_rng(seed), num_states=5, num_actions=3, num_successors=1, **fields
    )


@instances
@given(seeds, discounts)
def test_bellman_error_vanishes_at_the_policys_own_q(seed, discount):
    """D.2: r + gamma Q(s', pi(s')) - Q(s, a) = 0 for Q^pi; with Section 3.1's sign it is not."""
    mdp = deterministic_mdp(seed, discount=discount)
    policy = np.random.default_rng(seed).integers(3, size=5)
    states = np.arange(5)
    after = mdp.next_states[..., 0]
    # V^pi of the linear equations, without iteration.
    dynamics = np.eye(5)[after[states, policy]]
    v = np.linalg.solve(np.eye(5) - discount * dynamics, mdp.rewards[states, policy])
    q = mdp.rewards + discount * v[after]
    next_q = q[after, policy[after]]
    np.testing.assert_allclose(bellman_error(mdp.rewards, next_q, q, discount=discount), 0.0, atol=1e-11)
    printed = printed_bellman_error(mdp.rewards, next_q, q, discount=discount)
    np.testing.assert_allclose(printed, -2 * discount * next_q, atol=1e-11)
    assert np.abs(printed).max() > 1e-3


@instances
@given(seeds, discounts, st.integers(-10, 20).map(lambda tenths: 10.0 ** (tenths / 10)))
def test_lemma_c1_the_soft_backup_minimises_the_loss(seed, discount, beta):
    """Lemma C.1, Eq. 41 and 42: over a' from mu, the loss of scale gamma beta is least at B* Q, only there.

    With the scale beta instead of gamma beta it is least elsewhere.
    """
    mdp = deterministic_mdp(seed, discount=discount, beta=beta)
    q = np.random.default_rng(seed).normal(scale=3.0, size=mdp.rewards.shape)
    after = mdp.next_states[..., 0]
    targets = mdp.rewards[..., None] + discount * q[after]  # T_mu Q for every a', [S, A, A']
    weights = mdp.behavior[after]

    def slope(candidate, scale):
        """The loss's slope with respect to Q'(s, a), times the scale; the loss is convex."""
        return 1.0 - (weights * np.exp((targets - candidate[..., None]) / scale)).sum(-1)

    soft_backup = mdp.rewards + discount * mdp.soft_value(q)[after]
    step = 0.01 * discount * beta
    np.testing.assert_allclose(slope(soft_backup, discount * beta), 0.0, atol=1e-9)
    assert (slope(soft_backup - step, discount * beta) < -1e-3).all()
    assert (slope(soft_backup + step, discount * beta) > 1e-3).all()
    if discount < 0.9 and beta < 3:
        assert np.abs(slope(soft_backup, beta)).max() > 1e-3


@instances
@given(seeds, discounts)
def test_eq_37_holds_at_the_optimum(seed, discount):
    """Eq. 36 and 37: at V* and only there the loss of V against r + gamma V(s'), a from mu, is stationary."""
    mdp = deterministic_mdp(seed, discount=discount, beta=0.7)
    solution = q_iteration(mdp, 1e-12)

    def slope(v):
        targets = mdp.rewards + discount * v[mdp.next_states[..., 0]]
        return 1.0 - (mdp.behavior * np.exp((targets - v[:, None]) / 0.7)).sum(-1)

    np.testing.assert_allclose(slope(solution.v), 0.0, atol=1e-8)
    assert (slope(solution.v + 0.1) > 1e-3 * (1 - discount)).all()  # too high everywhere: all are pulled down
    assert (slope(solution.v - 0.1) < -1e-3 * (1 - discount)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "next_q is empty|rewards is empty"),
        (([1.0], [float("nan")], [1.0]), "next_q must be finite, not nan"),
        (([float("inf")], [1.0], [1.0]), "rewards must be finite, not inf"),
    ],
)
@pytest.mark.parametrize("function", [bellman_error, printed_bellman_error])
def test_bad_input_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments, discount=0.9)
    with pytest.raises(ValueError, match=r"discount must be within \[0, 1\), not 1"):
        function([1.0], [1.0], [1.0], discount=1.0)
