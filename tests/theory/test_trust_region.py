"""Beta as a trust region's multiplier: dual, units, limits; what a minibatch's D counts beside actions."""

import dataclasses

import numpy as np
from cases import seeds, several
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import rel_entr, softmax

from xql_jax.theory.conservatism import soft_policy
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.soft_mdp import SoftMDP, value_iteration
from xql_jax.theory.trust_region import (
    beta_at,
    divergence,
    dual,
    sample_divergence,
    shared_divergence,
    solve_at_divergence,
)

few = settings(max_examples=10)
shares = st.integers(1, 95).map(lambda percent: percent / 100)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
NORMAL = WEIGHTS / WEIGHTS.sum()  # the standard normal law on the nodes, exact for smooth functions


def instance(seed):
    """q, mu and the states' weights; mu leaves out an action whose Q is the largest by far."""
    generator = np.random.default_rng(seed)
    q, mu = generator.normal(size=(4, 3)), generator.dirichlet(np.ones(3), 4)
    q[0, 0], mu[0] = 50.0, [0.0, 0.4, 0.6]
    return q, mu, generator.dirichlet(np.ones(4))


def best_actions(q, mu):
    """Those of mu's actions whose Q is the largest, bool[S, A]."""
    supported = np.where(mu > 0, q, -np.inf)
    return np.isclose(supported, supported.max(-1, keepdims=True), rtol=0.0, atol=1e-9)


def largest_divergence(q, mu, weights):
    return -weights @ np.log((best_actions(q, mu) * mu).sum(-1))


def random_mdp(seed):
    _, behavior, weights = instance(seed)
    mdp = SoftMDP.random(np.random.default_rng(seed), num_states=4, num_actions=3, discount=0.8, beta=17.0)
    return dataclasses.replace(mdp, behavior=behavior), weights


def of_pairs(z, probabilities):
    """The divergence of the pairs (s, a) weighted by exp(z) from the pairs, all as one state."""
    return divergence(np.reshape(z, (1, -1)), np.reshape(probabilities, (1, -1)), 1.0, [1.0])


@several
@given(seeds, shares)
def test_the_duals_minimiser_is_the_beta_whose_divergence_is_eps(seed, share):
    q, mu, weights = instance(seed)
    eps = share * largest_divergence(q, mu, weights)
    beta = beta_at(q, mu, eps, weights)
    pi = soft_policy(q, mu, beta)
    np.testing.assert_allclose(weights @ rel_entr(pi, mu).sum(-1), eps, rtol=1e-9)
    found = minimize_scalar(
        lambda log_beta: dual(q, mu, np.exp(log_beta), eps, weights),
        bounds=(np.log(beta) - 3.0, np.log(beta) + 2.0),
        options={"xatol": 1e-10},
    )
    np.testing.assert_allclose(found.x, np.log(beta), atol=1e-5)
    # Strong duality: the minimum is what the best policy of the trust region has.
    np.testing.assert_allclose(found.fun, weights @ (pi * q).sum(-1), atol=1e-9)
    # The derivative is eps - KL, also elsewhere.
    ends = [dual(q, mu, 2.0 * beta * (1.0 + step), eps, weights) for step in (-1e-4, 1e-4)]
    slope = (ends[1] - ends[0]) / (4e-4 * beta)
    np.testing.assert_allclose(slope, eps - divergence(q, mu, 2.0 * beta, weights), atol=1e-6)


@few
@given(seeds, shares, st.sampled_from([1e-3, 100.0]))
def test_rewards_times_c_give_c_times_beta_and_the_same_policy(seed, share, factor):
    mdp, weights = random_mdp(seed)
    eps = 0.3 * share
    beta, solution = solve_at_divergence(mdp, eps, weights)
    held = weights @ rel_entr(solution.policy, mdp.behavior).sum(-1)
    np.testing.assert_allclose(held, eps, rtol=1e-8)
    scaled, same = solve_at_divergence(dataclasses.replace(mdp, rewards=factor * mdp.rewards), eps, weights)
    np.testing.assert_allclose(scaled, factor * beta, rtol=1e-8)
    np.testing.assert_allclose(same.policy, solution.policy, atol=1e-8)
    np.testing.assert_allclose(same.v, factor * solution.v, atol=1e-8 * factor)


@few
@given(seeds)
def test_between_cloning_and_the_best_actions_of_the_data(seed):
    """eps to 0: the values of mu; eps to the largest divergence: those of the best actions that mu takes."""
    mdp, weights = random_mdp(seed)
    _, cloning = solve_at_divergence(mdp, 1e-14, weights)
    np.testing.assert_allclose(cloning.v, mdp.expected_returns(mdp.behavior), atol=1e-5)
    v = np.zeros(4)
    for _ in range(200):
        v = np.where(mdp.behavior > 0, mdp.backup(v), -np.inf).max(-1)
    q = mdp.backup(v)
    eps = largest_divergence(q, mdp.behavior, weights) * (1.0 - 1e-9)
    _, greedy = solve_at_divergence(mdp, eps, weights)
    np.testing.assert_array_equal(greedy.policy > 0.5, best_actions(q, mdp.behavior))
    np.testing.assert_allclose(mdp.expected_returns(greedy.policy), v, atol=1e-5)


@few
@given(seeds)
def test_the_slope_of_v_is_the_divergence_along_the_policys_own_way(seed):
    """-dV/dbeta is the discounted sum of KL on pi_beta's states: eps in each is eps / (1 - discount)."""
    mdp, _ = random_mdp(seed)
    low, high = (value_iteration(dataclasses.replace(mdp, beta=beta), 1e-13).v for beta in (0.4999, 0.5001))
    policy = value_iteration(dataclasses.replace(mdp, beta=0.5), 1e-13).policy
    costs = np.broadcast_to(rel_entr(policy, mdp.behavior).sum(-1, keepdims=True), policy.shape)
    along = dataclasses.replace(mdp, rewards=costs).expected_returns(policy)
    np.testing.assert_allclose((low - high) / 0.0002, along, rtol=1e-6)


def test_several_betas_of_a_solved_mdp_can_hold_eps_and_the_largest_is_taken():
    """From state 0 one action leads to 0.4 for sure, the other to 1 by one in a hundred of mu's actions.

    V of the second is 0.4 at some beta. There both actions are equally good, and state 0's divergence is 0.
    """
    transitions = np.zeros((4, 2, 4))
    transitions[0, [0, 1], [1, 2]] = transitions[1:, :, 3] = 1.0
    rewards, mu = [[0, 0], [0.4, 0.4], [0, 1], [0, 0]], [[0.5, 0.5], [0.5, 0.5], [0.99, 0.01], [0.5, 0.5]]
    mdp, first = SoftMDP.dense(transitions, rewards, mu, discount=0.9, beta=1.0), [1.0, 0.0, 0.0, 0.0]
    betas = np.geomspace(0.05, 5.0, 400)
    values = [[0.0, 0.4, log_partition([0.0, 1.0], beta, mu[2]), 0.0] for beta in betas]
    found = [divergence(mdp.backup(v), mu, beta, first) for v, beta in zip(values, betas, strict=True)]
    above = np.array(found) > 0.05
    assert np.count_nonzero(above[1:] != above[:-1]) == 3
    np.testing.assert_allclose(solve_at_divergence(mdp, 0.05, first)[0], betas[above][-1], rtol=0.02)


@several
@given(seeds, st.integers(2, 300), st.sampled_from([0.01, 1.0, 100.0]))
def test_d_of_a_minibatch(seed, size, spread):
    """log B minus the entropy: 0 for equal weights, at most log B, whatever constant V is off by."""
    z = spread * np.random.default_rng(seed).normal(size=size)
    p = softmax(z)
    found = sample_divergence(z)
    np.testing.assert_allclose(found, np.log(size) + rel_entr(p, 1.0).sum(), atol=1e-12)
    np.testing.assert_allclose(sample_divergence(z + 1e3), found, rtol=1e-6, atol=1e-12)
    assert 0.0 < found <= np.log(size) + 1e-12
    assert sample_divergence(np.full(size, spread)) == 0.0
    np.testing.assert_allclose(sample_divergence([0.0] * (size - 1) + [1e9]), np.log(size))


def test_d_estimates_the_divergence_if_v_is_right():
    """Rows of states and mu's actions: within four standard errors of E_s KL, of 200 minibatches of 5,000."""
    q, mu, weights = instance(0)
    beta = beta_at(q, mu, 0.25, weights)
    generator = np.random.default_rng(1)
    z = (q - log_partition(q, beta, mu)[:, None]) / beta
    pairs = generator.choice(mu.size, (200, 5_000), p=(weights[:, None] * mu).ravel())
    found = [sample_divergence(z.ravel()[rows]) for rows in pairs]
    error = np.std(found) / np.sqrt(len(found))
    assert error < 1e-3
    assert abs(np.mean(found) - 0.25) < 4.0 * error


@several
@given(seeds, st.sampled_from([0.0, 0.3, 2.0]))
def test_d_adds_how_far_a_wrong_v_moves_the_states(seed, spread):
    """D = KL(states weighted by c(s) = E_mu[exp(z)] || data's) + E_c[KL over actions], whatever V is.

    If V is right, c is 1: D is E_s KL. The actions' part does not depend on V, but its mean over states does.
    """
    q, mu, weights = instance(seed)
    q[0, 0] = 0.0
    beta = 0.7
    error = spread * np.random.default_rng(seed + 1).normal(size=(4, 1))
    z = (q - log_partition(q, beta, mu)[:, None] - error) / beta
    c = weights * (mu * np.exp(z)).sum(-1)
    states = c / c.sum()
    moved = rel_entr(states, weights).sum()
    actions = divergence(q, mu, beta, states)
    np.testing.assert_allclose(of_pairs(z, weights[:, None] * mu), moved + actions, rtol=1e-9)
    if spread == 0.0:
        np.testing.assert_allclose(states, weights)
        np.testing.assert_allclose(moved + actions, divergence(q, mu, beta, weights))


@several
@given(seeds, st.integers(1, 3))
def test_rows_of_uniform_actions_take_up_to_log_1_plus_k_nats(seed, k):
    """k worse rows a row of data: D of all is log(1 + k) more than that of the data's rows."""
    z = np.random.default_rng(seed).normal(size=50)
    worse = np.random.default_rng(seed + 1).normal(size=50 * k) - 60.0
    everything = sample_divergence(np.concatenate([z, worse]))
    np.testing.assert_allclose(everything, np.log(1 + k) + sample_divergence(z))


@several
@given(shares, st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_normal_noise_takes_its_share_of_eps(eps, noise):
    """Q of variance 1 and noise of variance n^2: beta^2 = (1 + n^2) / 2 eps, and 1 / (1 + n^2) is for Q."""
    q = NODES[:, None] + noise * NODES
    probabilities = NORMAL[:, None] * NORMAL
    beta = beta_at(q.reshape(1, -1), probabilities.reshape(1, -1), eps, [1.0])
    np.testing.assert_allclose(beta**2, (1.0 + noise**2) / (2.0 * eps), rtol=1e-6)
    of_q = soft_policy(q.ravel(), probabilities.ravel(), beta).reshape(q.shape).sum(-1)
    np.testing.assert_allclose(rel_entr(of_q, NORMAL).sum(), eps / (1.0 + noise**2), rtol=1e-6)


def test_two_critics_share_the_part_of_eps_that_is_not_noise():
    """Half the covariance of z is s^2 / (2 beta^2) without bias: in minibatches of eight rows, with noise."""
    generator, beta = np.random.default_rng(0), np.sqrt(2.0)
    q, noise, other = generator.normal(size=(3, 20_000, 8)) * np.array([1.0, 1.5, 1.5])[:, None, None]
    found = [shared_divergence(*rows) for rows in zip((q + noise) / beta, (q + other) / beta, strict=True)]
    error = np.std(found) / np.sqrt(len(found))
    assert error < 0.01
    assert abs(np.mean(found) - 0.25) < 4.0 * error
