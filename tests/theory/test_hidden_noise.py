"""Bellman errors, and Appendix A.1: choices under hidden Gumbel noise against quadrature."""

import dataclasses

import numpy as np
import pytest
from cases import EULER, discounts, instances, observed_solution, random_mdp, scales, seeds
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from xql_jax.theory.gumbel import gumbel_max_law
from xql_jax.theory.soft_mdp import value_iteration


@instances
@given(seeds, discounts)
def test_bellman_error_vanishes_at_the_policys_own_q(seed, discount):
    """D.2: r + gamma Q(s', pi(s')) - Q(s, a) = 0 for Q^pi; with Section 3.1's sign it is not."""
    mdp = random_mdp(seed, num_states=5, num_successors=1, discount=discount)
    policy = np.random.default_rng(seed).integers(3, size=5)
    after = mdp.next_states[..., 0]
    q = mdp.backup(mdp.expected_returns(np.eye(3)[policy]))  # V^pi of linear equations, without iteration
    next_q = q[after, policy[after]]
    np.testing.assert_allclose(mdp.rewards + discount * next_q - q, 0.0, atol=1e-11)
    printed = mdp.rewards - discount * next_q - q
    np.testing.assert_allclose(printed, -2 * discount * next_q, atol=1e-11)
    assert np.abs(printed).max() > 1e-3


def noisy_choice(q, law):
    """The law of argmax_a(q + noise) and the mean of the maximum, by the integrals of Eq. 23, 18 and 24."""
    noise = np.linspace(law.ppf(1e-17), law.isf(1e-17), 1024)
    masses = law.pdf(noise) * (noise[1] - noise[0])
    np.testing.assert_allclose(masses.sum(), 1.0, atol=1e-10)
    values = np.asarray(q, np.float64)
    differences = values[..., :, None] - values[..., None, :]
    not_larger = law.cdf(differences[..., None] + noise)  # [..., i, j, node]
    each = np.arange(values.shape[-1])
    not_larger[..., each, each, :] = 1.0
    weights = not_larger.prod(-2) * masses  # [..., i, node]
    return weights.sum(-1), (weights * (values[..., None] + noise)).sum((-2, -1))


@pytest.mark.slow
@instances
@given(seeds, scales, discounts, st.sampled_from([-1.0, 0.0, 0.5]), st.sampled_from([2, 3, 4]))
def test_lemma_a1_hidden_gumbel_noise_gives_the_soft_bellman_equation(seed, beta, discount, at, actions):
    """Lemma A.1: the solution satisfies Eq. 17-20, whose expectations are integrated numerically."""
    mdp = random_mdp(seed, num_actions=actions, discount=discount)
    solution = observed_solution(mdp, at, beta, 1e-11)
    choice, maximum = noisy_choice(solution.q, stats.gumbel_r(at, beta))
    np.testing.assert_allclose(solution.v, maximum, atol=1e-8)  # Eq. 18
    np.testing.assert_allclose(solution.q, mdp.backup(maximum), atol=1e-8)  # Eq. 19
    np.testing.assert_allclose(solution.policy, choice, atol=1e-8)  # Eq. 20


@pytest.mark.slow
@instances
@given(seeds, scales, discounts)
def test_eq_21_as_printed_holds_for_centred_noise_only(seed, beta, discount):
    """Eq. 21: without E[noise], q of G(0, beta) comes out low by discount * 0.577 * beta / (1 - discount)."""
    mdp = random_mdp(seed, discount=discount)
    printed = np.zeros(mdp.rewards.shape)
    for _ in range(130):
        printed = mdp.backup(beta * np.logaddexp.reduce(printed / beta, axis=-1))
    of_centred = observed_solution(mdp, -EULER * beta, beta, 1e-11).q
    np.testing.assert_allclose(printed, of_centred, atol=1e-8)
    uncentred = observed_solution(mdp, 0.0, beta, 1e-11).q
    np.testing.assert_allclose(uncentred - printed, discount * EULER * beta / (1.0 - discount), atol=1e-8)
    # With L^beta of Eq. 1, a mean under mu, log A is missing as well.
    uniform = dataclasses.replace(mdp, beta=beta, behavior=np.full(mdp.rewards.shape, 1 / 3))
    mean = value_iteration(uniform, 1e-11).q
    missing = discount * beta * (np.log(3.0) + EULER) / (1.0 - discount)
    np.testing.assert_allclose(uncentred - mean, missing, atol=1e-8)


def test_eq_22_needs_the_temperature():
    """Eq. 22: with beta = 2 and q = (0, 2 log 3) the odds are 1 to 3; the printed softmax(q) has 1 to 9."""
    q = np.array([0.0, 2.0 * np.log(3.0)])
    for choice in (noisy_choice(q, stats.gumbel_r(0.0, 2.0))[0], gumbel_max_law(q, 2.0)[1]):
        np.testing.assert_allclose(choice, [0.25, 0.75], atol=1e-12)
    np.testing.assert_allclose(special.softmax(q), [0.1, 0.9], atol=1e-12)


@instances
@given(st.integers(-40, 40), scales)
def test_corollary_a11_fails_for_two_actions(tenths, beta):
    """Corollary A.1.1: its statement lacks N >= 3; for N = 2 mirrored Gumbel noise gives the softmax, too."""
    q = np.array([0.0, 0.1 * beta * tenths])
    choice, _ = noisy_choice(q, stats.gumbel_l(0.0, beta))
    np.testing.assert_allclose(choice, special.softmax(q / beta), atol=1e-10)
