"""Soft value and Q iteration against hand-worked numbers, dense float64 algebra, limits, certificates."""

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mdp_runs import betas, dense_transitions, discounts, instances, random_mdp, seeds
from scipy.special import logsumexp, softmax

from xql_jax.theory.soft_mdp import SoftMDP, q_iteration, value_iteration

NAN = float("nan")


def test_two_states_by_hand():
    # State 1 pays 1 for ever: V = 1 / (1 - 1/2) = 2 whatever its action. From state 0 both actions lead there
    # with rewards beta log 2 - 1 and beta log 4 - 1: Q is beta log 2 and beta log 4, V is beta log(6 / 2).
    beta = 0.3
    transitions = np.zeros((2, 2, 2))
    transitions[:, :, 1] = 1.0
    rewards = np.array([beta * np.log([2.0, 4.0]) - 1.0, [1.0, 1.0]])
    mdp = SoftMDP.dense(transitions, rewards, np.full((2, 2), 0.5), discount=0.5, beta=beta)
    assert mdp.next_states.shape == (2, 2, 1)
    for iterate in (value_iteration, q_iteration):
        solution = iterate(mdp, 1e-13)
        np.testing.assert_allclose(solution.v, [beta * np.log(3.0), 2.0], atol=1e-12)
        np.testing.assert_allclose(solution.q, [beta * np.log([2.0, 4.0]), [2.0, 2.0]], atol=1e-12)
        np.testing.assert_allclose(solution.policy, [[1 / 3, 2 / 3], [0.5, 0.5]], atol=1e-12)


@instances
@given(seeds, betas, discounts)
def test_values_solve_the_soft_bellman_equations(seed, beta, discount):
    """Eq. 1, 10, 33, 34, 35: V = L^beta_mu(r + discount * E[V(s')]), by dense algebra and SciPy."""
    mdp = random_mdp(seed, beta=beta, discount=discount)
    solution = value_iteration(mdp, 1e-12)
    atol = 1e-9 * (1 + np.abs(solution.v).max())
    q = mdp.rewards + discount * dense_transitions(mdp) @ solution.v
    np.testing.assert_allclose(solution.q, q, atol=atol)
    with np.errstate(divide="ignore"):
        v = beta * logsumexp(q / beta, b=mdp.behavior, axis=-1)
    np.testing.assert_allclose(solution.v, v, atol=max(atol, 1e-13 * beta))


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
@given(seeds, betas, discounts)
def test_q_iteration_reaches_the_same_optimum(seed, beta, discount):
    """Eq. 38: Q iteration and value iteration agree within what their certificates promise."""
    mdp = random_mdp(seed, beta=beta, discount=discount)
    by_v, by_q = value_iteration(mdp, 1e-10), q_iteration(mdp, 1e-10)
    allowed = by_v.error_bound + by_q.error_bound + 1e-11
    assert np.abs(by_v.q - by_q.q).max() <= allowed
    assert np.abs(by_v.v - by_q.v).max() <= allowed


@instances
@given(seeds, betas, st.integers(1, 99))
def test_the_discount_moves_into_the_scale(seed, beta, percent):
    """Eq. 38, 39, 40: r + g L^b[Q] = r + L^gb[g Q] = L^gb[r + g Q], the step to Lemma C.1."""
    discount = percent / 100
    mdp = random_mdp(seed, beta=beta)
    q = np.random.default_rng(seed).normal(scale=5.0, size=mdp.rewards.shape)
    scaled = dataclasses.replace(mdp, beta=discount * beta)
    reward = mdp.rewards[:, :1]
    eq_38 = reward[:, 0] + discount * mdp.soft_value(q)
    np.testing.assert_allclose(reward[:, 0] + scaled.soft_value(discount * q), eq_38, atol=1e-10)
    np.testing.assert_allclose(scaled.soft_value(reward + discount * q), eq_38, atol=1e-10)
    if 0.01 < beta < 100 and percent < 90:  # between the maximum and the mean, which know no scale
        assert np.abs(mdp.soft_value(reward + discount * q) - eq_38).max() > 1e-6


@instances
@given(seeds, betas, discounts)
def test_policy_is_the_softmax_weighted_by_mu(seed, beta, discount):
    """Eq. 2, the handout's Eq. 23, 24, 25: mu exp((Q - V) / beta) = mu exp(Q / beta) / sum, rows of sum 1."""
    mdp = random_mdp(seed, beta=beta, discount=discount)
    solution = value_iteration(mdp, 1e-10)
    with np.errstate(divide="ignore"):
        by_eq_23 = softmax(solution.q / beta + np.log(mdp.behavior), axis=-1)
    np.testing.assert_allclose(solution.policy, by_eq_23, atol=1e-9)
    assert solution.policy[0, 0] == 0.0  # the action that pays 50, outside mu


@instances
@given(seeds, betas)
def test_lemma_35_the_loss_of_v_is_least_at_the_soft_value(seed, beta):
    """Lemma 3.5: minimising Eq. 11 over V gives L^beta_mu[Q] at every state."""
    mdp = random_mdp(seed, beta=beta)
    q = mdp.backup(np.random.default_rng(seed).normal(scale=3.0, size=5))

    def slope(v):
        """Returns beta times the slope of E_mu[exp(z) - z - 1], z = (Q - V) / beta."""
        z = np.where(mdp.behavior > 0, (q - v[:, None]) / beta, 0.0)
        return 1.0 - (mdp.behavior * np.exp(np.minimum(z, 50.0))).sum(-1)

    v = mdp.soft_value(q)
    np.testing.assert_allclose(slope(v), 0.0, atol=1e-9)
    assert (slope(v + 0.01 * beta) > 5e-3).all()
    assert (slope(v - 0.01 * beta) < -5e-3).all()


@instances
@given(seeds, betas, discounts)
def test_policy_is_optimal_for_the_regularised_return(seed, beta, discount):
    """Sec. 2.1, the handout's Eq. 3: with -beta log(pi / mu) paid, Eq. 2's policy earns V*, others less."""
    mdp = random_mdp(seed, beta=beta, discount=discount)
    solution = value_iteration(mdp, 1e-12)

    def value(policy):
        ratio = np.divide(policy, mdp.behavior, out=np.ones_like(policy), where=policy > 0)
        penalty = np.where(policy > 0, np.log(np.where(policy > 0, ratio, 1.0)), 0.0)
        reward = (policy * (mdp.rewards - beta * penalty)).sum(-1)
        dynamics = np.einsum("sa,san->sn", policy, dense_transitions(mdp))
        return np.linalg.solve(np.eye(5) - discount * dynamics, reward)

    atol = 1e-8 * (1 + beta + np.abs(solution.v).max())
    np.testing.assert_allclose(value(solution.policy), solution.v, atol=atol)
    other = mdp.behavior * np.random.default_rng(seed).uniform(size=mdp.behavior.shape)
    other /= other.sum(-1, keepdims=True)
    for policy in (mdp.behavior, other, 0.9 * solution.policy + 0.1 * mdp.behavior):
        assert (value(policy) <= solution.v + atol).all()


def random_policy(mdp, seed):
    """Leaves out about a third of the actions, but not always the one that mu leaves out."""
    weights = np.random.default_rng(seed).exponential(size=mdp.behavior.shape)
    weights[weights < 0.4] = 0.0
    weights[:, -1] += 0.1
    return weights / weights.sum(-1, keepdims=True)


def test_expected_returns_by_hand():
    # State 1 pays 1 for ever, 2 in all. In state 0 action 0 stays and pays 4, action 1 leads on for nothing.
    # Half and half: v = (4 + v / 2) / 2 + (0 + 2 / 2) / 2, so v = 10 / 3; never leaving: 8; leaving: 1.
    mdp = SoftMDP(
        next_states=np.array([[[0], [1]], [[1], [1]]]),
        probabilities=np.ones((2, 2, 1)),
        rewards=np.array([[4.0, 0.0], [1.0, 1.0]]),
        behavior=np.array([[0.999, 0.001], [0.5, 0.5]]),  # leaving would have a KL cost of 3 * log(1000)
        discount=0.5,
        beta=3.0,
    )
    for first, expected in (([0.5, 0.5], 10 / 3), ([1.0, 0.0], 8.0), ([0.0, 1.0], 1.0)):
        np.testing.assert_allclose(mdp.expected_returns([first, [0.2, 0.8]]), [expected, 2.0], rtol=1e-14)


@instances
@given(seeds, discounts)
def test_expected_returns_solve_the_dense_system(seed, discount):
    """Sec. 2.1: v = r_pi + discount * P_pi v, by dense algebra; with a policy that is greedy, too."""
    mdp = random_mdp(seed, discount=discount)
    greedy = np.eye(3)[np.random.default_rng(seed).integers(3, size=5)]
    for policy in (random_policy(mdp, seed), greedy):
        dynamics = np.einsum("sa,san->sn", policy, dense_transitions(mdp))
        expected = np.linalg.solve(np.eye(5) - discount * dynamics, (policy * mdp.rewards).sum(-1))
        atol = 1e-12 * np.abs(mdp.rewards).max() / (1 - discount)
        np.testing.assert_allclose(mdp.expected_returns(policy), expected, rtol=0.0, atol=atol)


@instances
@given(seeds, st.integers(0, 90).map(lambda percent: percent / 100))
def test_expected_returns_are_sums_over_time(seed, discount):
    """Sec. 2.1: E[sum_t discount^t r_t], where the states' distribution is carried on from step to step."""
    mdp = random_mdp(seed, discount=discount)
    policy = random_policy(mdp, seed)
    dynamics = np.einsum("sa,san->sn", policy, dense_transitions(mdp))
    distributions, total = np.eye(5), np.zeros(5)  # rows: the state at first
    for step in range(300):  # 0.9^300 is 2e-14
        total += discount**step * distributions @ (policy * mdp.rewards).sum(-1)
        distributions = distributions @ dynamics
    np.testing.assert_allclose(mdp.expected_returns(policy), total, rtol=0.0, atol=1e-9)


def test_expected_returns_of_many_states_need_no_dense_matrix():
    # A corridor of 20,000 states, each paying 1, whose last pays nothing and stays; dense it takes 3 GB.
    length, discount = 20_000, 0.999
    left = np.arange(length)[::-1]  # moves to the end
    mdp = SoftMDP(
        next_states=np.minimum(np.arange(length) + 1, length - 1)[:, None, None],
        probabilities=np.ones((length, 1, 1)),
        rewards=(left > 0).astype(float)[:, None],
        behavior=np.ones((length, 1)),
        discount=discount,
        beta=1.0,
    )
    expected = (1 - discount**left) / (1 - discount)
    np.testing.assert_allclose(mdp.expected_returns(mdp.behavior), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.full((5, 2), 0.5), r"policy must have the shape \(5, 3\), not \(5, 2\)"),
        (np.full(3, 1 / 3), r"policy must have the shape \(5, 3\), not \(3,\)"),
        (np.full((5, 3), 0.3), r"row .* of policy must sum to 1, and sums to 0.9"),
        (np.tile([1.5, -0.5, 0.0], (5, 1)), "policy .*negative.* -0.5"),
        (np.full((5, 3), NAN), "policy must be finite, not nan"),
    ],
)
def test_returns_of_no_policy_are_refused(policy, message):
    with pytest.raises(ValueError, match=message):
        random_mdp().expected_returns(policy)


@instances
@given(seeds, betas, discounts, st.integers(-9, 0))
def test_certificate_bounds_the_error(seed, beta, discount, exponent):
    mdp = random_mdp(seed, beta=beta, discount=discount)
    exact, solution = value_iteration(mdp, 1e-12), value_iteration(mdp, 10.0**exponent)
    assert solution.residual <= 10.0**exponent
    np.testing.assert_allclose(solution.error_bound, solution.residual * discount / (1 - discount))
    assert np.abs(solution.v - exact.v).max() <= solution.error_bound + 1e-9
    assert np.abs(solution.q - exact.q).max() <= solution.error_bound + 1e-9


def test_certificate_is_attained_where_the_error_is_the_same_everywhere():
    # Equal rewards: every sweep multiplies the error, 1 / (1 - 0.9) = 10 at first, by 0.9 and no less.
    mdp = dataclasses.replace(random_mdp(), rewards=np.ones((5, 3)))
    solution = value_iteration(mdp, 0.5)
    np.testing.assert_allclose(10.0 - solution.v, solution.error_bound, rtol=1e-9)
    assert solution.sweeps == 8  # 0.9^7 = 0.478 is the first change below 0.5


@instances
@given(seeds, betas, discounts)
def test_backup_contracts(seed, beta, discount):
    """Sec. 2.1: the soft-Bellman operator's modulus is the discount, attained along the constants."""
    mdp = random_mdp(seed, beta=beta, discount=discount)
    a, b = np.random.default_rng(seed).normal(scale=5.0, size=(2, 5))
    image_a, image_b = (mdp.soft_value(mdp.backup(v)) for v in (a, b))
    assert np.abs(image_a - image_b).max() <= discount * np.abs(a - b).max() + 1e-9
    np.testing.assert_allclose(mdp.soft_value(mdp.backup(a + 1.0)) - image_a, discount, atol=1e-9)


@instances
@given(seeds, betas, betas, discounts)
def test_values_fall_with_beta(seed, beta, other, discount):
    """Lemma 3.1 carried through the fixed point: a smaller beta gives larger values."""
    mdp = random_mdp(seed, beta=min(beta, other), discount=discount)
    larger = dataclasses.replace(mdp, beta=max(beta, other))
    assert (value_iteration(mdp, 1e-11).v >= value_iteration(larger, 1e-11).v - 1e-8).all()


def test_small_beta_is_value_iteration_over_the_support():
    mdp = random_mdp(beta=1e-9)
    v = np.zeros(5)
    for _ in range(400):
        q = mdp.rewards + 0.9 * dense_transitions(mdp) @ v
        v = np.where(mdp.behavior > 0, q, -np.inf).max(-1)
    np.testing.assert_allclose(value_iteration(mdp).v, v, atol=1e-6)
    assert v[0] < 40  # the 50 that mu never takes is not counted


def test_large_beta_is_evaluation_of_mu():
    mdp = random_mdp(beta=1e12)
    reward = (mdp.behavior * mdp.rewards).sum(-1)
    dynamics = np.einsum("sa,san->sn", mdp.behavior, dense_transitions(mdp))
    expected = np.linalg.solve(np.eye(5) - 0.9 * dynamics, reward)
    np.testing.assert_allclose(value_iteration(mdp).v, expected, atol=1e-7)


@pytest.mark.parametrize("iterate", [value_iteration, q_iteration])
def test_a_tolerance_below_rounding_ends(iterate):
    solution = iterate(random_mdp(discount=0.99), 1e-300)
    assert 0 < solution.residual < 1e-11
    assert solution.sweeps < 80_000


@pytest.mark.parametrize("iterate", [value_iteration, q_iteration])
def test_no_discount_needs_no_iteration(iterate):
    mdp = random_mdp(discount=0.0)
    solution = iterate(mdp)
    np.testing.assert_array_equal(solution.q, mdp.rewards)
    np.testing.assert_array_equal(solution.v, mdp.soft_value(mdp.rewards))
    assert solution.residual <= 1e-15  # the last sweep is NumPy's, the one before XLA's
    assert solution.error_bound == 0.0


@pytest.mark.slow
def test_100_000_pairs_take_seconds():
    mdp = SoftMDP.random(
        np.random.default_rng(0), num_states=10_000, num_actions=10, num_successors=10, discount=0.99
    )
    value_iteration(mdp, 1.0)  # compiles
    start = time.perf_counter()
    solution = value_iteration(mdp, 1e-6)
    seconds = time.perf_counter() - start
    assert solution.residual <= 1e-6
    assert np.abs(mdp.soft_value(mdp.backup(solution.v)) - solution.v).max() <= 1e-6
    assert seconds < 5.0  # 1 to 2 s on two cores with nothing else to do


def test_rows_of_the_policy_sum_to_one_at_a_tiny_beta():
    solution = value_iteration(random_mdp(beta=1e-12, discount=0.99), 1e-9)
    assert np.abs(solution.v).max() > 10
    np.testing.assert_allclose(solution.policy.sum(-1), 1.0, atol=1e-12)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, NAN])
@pytest.mark.parametrize("iterate", [value_iteration, q_iteration])
def test_impossible_tolerance_is_refused(iterate, tolerance):
    with pytest.raises(ValueError, match=f"tolerance .*not {tolerance}"):
        iterate(random_mdp(), tolerance)
