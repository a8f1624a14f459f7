"""Soft value iteration against hand-worked numbers, dense float64 algebra, limits, certificates."""

import dataclasses

import numpy as np
import pytest
from cases import dense_transitions, evaluated, instances, seeds
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax

from xql_jax.theory.soft_mdp import SoftMDP, value_iteration

betas = st.integers(-30, 30).map(lambda exponent: 10.0 ** (exponent / 10))  # 0.001 to 1,000
discounts = st.integers(0, 98).map(lambda percent: percent / 100)


def random_mdp(seed=0, **changes):
    """Stochastic transitions; mu leaves out the best-paid action of state 0."""
    settings = {"num_states": 5, "num_actions": 3, "num_successors": 3, "discount": 0.9, "beta": 0.7}
    mdp = SoftMDP.random(np.random.default_rng(seed), **settings | changes)
    rewards, behavior = mdp.rewards.copy(), mdp.behavior.copy()
    rewards[0, 0], behavior[0] = 50.0, [0.0, 0.5, 0.5]
    return dataclasses.replace(mdp, rewards=rewards, behavior=behavior)


def test_two_states_by_hand():
    # State 1 pays 1 for ever: V = 1 / (1 - 1/2) = 2 whatever its action. From state 0 both actions lead there
    # with rewards beta log 2 - 1 and beta log 4 - 1: Q is beta log 2 and beta log 4, V is beta log(6 / 2).
    beta = 0.3
    transitions = np.zeros((2, 2, 2))
    transitions[:, :, 1] = 1.0
    rewards = np.array([beta * np.log([2.0, 4.0]) - 1.0, [1.0, 1.0]])
    mdp = SoftMDP.dense(transitions, rewards, np.full((2, 2), 0.5), discount=0.5, beta=beta)
    assert mdp.next_states.shape == (2, 2, 1)
    solution = value_iteration(mdp, 1e-13)
    np.testing.assert_allclose(solution.v, [beta * np.log(3.0), 2.0], atol=1e-12)
    np.testing.assert_allclose(solution.policy, [[1 / 3, 2 / 3], [0.5, 0.5]], atol=1e-12)
    np.testing.assert_allclose(solution.q, [beta * np.log([2.0, 4.0]), [2.0, 2.0]], atol=1e-12)


@instances
@given(seeds, betas, discounts)
def test_values_solve_the_soft_bellman_equations(seed, beta, discount):
    """Eq. 1, 2, 10, 33 to 35: V = L^beta_mu(r + discount * E[V(s')]), by dense algebra and SciPy."""
    mdp = random_mdp(seed, beta=beta, discount=discount)
    solution = value_iteration(mdp, 1e-12)
    atol = 1e-9 * (1 + np.abs(solution.v).max())
    q = mdp.rewards + discount * dense_transitions(mdp) @ solution.v
    np.testing.assert_allclose(solution.q, q, atol=atol)
    with np.errstate(divide="ignore"):
        v = beta * logsumexp(q / beta, b=mdp.behavior, axis=-1)
        policy = softmax(solution.q / beta + np.log(mdp.behavior), axis=-1)
    np.testing.assert_allclose(solution.v, v, atol=max(atol, 1e-13 * beta))
    np.testing.assert_allclose(solution.policy, policy, atol=1e-9)


@instances
@given(seeds, betas, discounts)
def test_printed_v_of_s_is_another_equation(seed, beta, discount):
    """Eq. 33 and 35 as printed, with V(s) for V(s'), have another solution: (1 - discount) V = L^beta(r)."""
    mdp = random_mdp(seed, beta=beta, discount=discount)
    printed = mdp.soft_value(mdp.rewards) / (1 - discount)
    np.testing.assert_allclose(mdp.soft_value(mdp.rewards + discount * printed[:, None]), printed, rtol=1e-9)
    solution = value_iteration(mdp, 1e-12)
    if discount > 0.1:
        assert np.abs(printed - solution.v).max() > 1e-3


@instances
@given(seeds, betas, discounts, st.integers(-9, 0))
def test_certificate_bounds_the_error(seed, beta, discount, exponent):
    mdp = random_mdp(seed, beta=beta, discount=discount)
    exact, solution = value_iteration(mdp, 1e-12), value_iteration(mdp, 10.0**exponent)
    assert solution.residual <= 10.0**exponent
    np.testing.assert_allclose(solution.error_bound, solution.residual * discount / (1 - discount))
    assert np.abs(solution.v - exact.v).max() <= solution.error_bound + 1e-9
    assert np.abs(solution.q - exact.q).max() <= solution.error_bound + 1e-9


def test_empirical_mdp_counts():
    # Pair (0, 1) thrice, to states 0, 2, 2, rewards 1, 2, 6; pair (0, 0) once, to 1; none from states 1, 2.
    mdp = SoftMDP.from_transitions(
        np.array([0, 0, 0, 0]),
        np.array([1, 1, 0, 1]),
        np.array([1.0, 2.0, 5.0, 6.0]),
        np.array([0, 2, 1, 2]),
        num_states=3,
        num_actions=2,
        discount=0.5,
        beta=1.0,
    )
    np.testing.assert_allclose(mdp.behavior, [[0.25, 0.75], [0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(mdp.rewards, [[5.0, 3.0], [0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(dense_transitions(mdp)[0], [[0, 1, 0], [1 / 3, 0, 2 / 3]])
    solution = value_iteration(mdp, 1e-13)
    np.testing.assert_array_equal(solution.v[1:], 0.0)
    np.testing.assert_allclose(solution.q[0], [5.0, 3.0 + solution.v[0] / 6], atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 0.0}, "beta must be positive and finite, not 0.0"),
        ({"discount": 1.0}, r"discount must be within \[0, 1\), not 1.0"),
        ({"behavior": np.full((5, 3), 0.3)}, "behavior must not be negative, and must sum to 1"),
        ({"probabilities": np.full((5, 3, 2), 0.5)}, "the shapes of the four tables do not fit"),
        ({"rewards": np.full((5, 3), np.nan)}, "rewards must be finite and not empty"),
    ],
)
def test_impossible_mdp_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(random_mdp(), **changes)


@instances
@given(seeds, discounts)
def test_expected_returns_solve_the_dense_system(seed, discount):
    """Sec. 2.1: v = r_pi + discount * P_pi v, by dense algebra; with a policy that is greedy, too."""
    mdp, generator = random_mdp(seed, discount=discount), np.random.default_rng(seed)
    weights = np.maximum(generator.exponential(size=(5, 3)) - 0.4, [0.0, 0.0, 0.1])  # some actions have none
    greedy = np.eye(3)[generator.integers(3, size=5)]
    for policy in (weights / weights.sum(-1, keepdims=True), greedy):
        expected = evaluated(mdp, policy, mdp.rewards)
        atol = 1e-12 * np.abs(mdp.rewards).max() / (1 - discount)
        np.testing.assert_allclose(mdp.expected_returns(policy), expected, rtol=0.0, atol=atol)


@instances
@given(seeds, st.integers(1, 6), st.integers(1, 4))
def test_dense_and_successor_lists_are_the_same_mdp(seed, num_states, num_actions):
    generator = np.random.default_rng(seed)
    transitions = generator.dirichlet(np.full(num_states, 0.3), (num_states, num_actions))
    transitions = np.where(transitions < 0.05, 0.0, transitions)
    transitions /= transitions.sum(-1, keepdims=True)
    rewards = generator.normal(size=(num_states, num_actions))
    behavior = generator.dirichlet(np.ones(num_actions), num_states)
    mdp = SoftMDP.dense(transitions, rewards, behavior, discount=0.9, beta=1.0)
    np.testing.assert_allclose(dense_transitions(mdp), transitions, atol=1e-15)
    assert mdp.next_states.shape[-1] == (transitions > 0).sum(-1).max()
