"""Lemma 3.4 and Appendix C.2: the loss that gives the soft backup, the KL's dual and noisy actions."""

import dataclasses

import numpy as np
import pytest
from cases import distributions, several, triples
from hypothesis import assume, given
from hypothesis import strategies as st

from xql_jax.theory import conservatism
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.soft_mdp import SoftMDP

betas = st.integers(1, 80).map(lambda n: n / 20)


def excess(d):
    """exp(-d) + d - 1, 0 at 0 and positive elsewhere."""
    return np.expm1(-d) + d


def kl_dual(x, pi, mu):
    """C.2's dual of the KL divergence, with the constant that makes it one."""
    return 1.0 - mu @ np.exp(-x) - pi @ x


def soft_backup_loss(q, targets, pi, mu, beta):
    """E_mu[exp(z)] - E_pi[z] - 1 with z = (targets - q) / beta: Eq. 8, which prints mu for pi."""
    return -kl_dual((q - targets) / beta, pi, mu)


def soft_objective(pi, q, mu, beta):
    """E_pi[Q - beta log(pi / mu)], which Eq. 13 maximises."""
    return pi @ q - beta * conservatism.kl_divergence(pi, mu)


@several
@given(distributions, distributions, triples)
def test_dual_of_the_divergence(pi, mu, x):
    """C.2: KL(pi || mu) = max over x of E_mu[-exp(-x)] - E_pi[x] + 1, at x = -log(pi / mu).

    It is printed with -1 for +1: 2 too low, so negative wherever the divergence is below 2.
    """
    divergence = sum(p * np.log(p / m) for p, m in zip(pi, mu, strict=True))
    best = -np.log(pi / mu)
    np.testing.assert_allclose(conservatism.kl_divergence(pi, mu), divergence, atol=1e-13)
    np.testing.assert_allclose(kl_dual(best, pi, mu), divergence, atol=1e-13)
    # As mu exp(-x) = pi exp(-(x - best)), each action's loss has a closed form.
    shortfall = divergence - kl_dual(x, pi, mu)
    np.testing.assert_allclose(shortfall, pi @ excess(x - best), atol=1e-11)


@several
@given(distributions, distributions, triples, triples, betas)
def test_minimum_of_the_soft_backup_loss(pi, mu, targets, q, beta):
    """Lemma 3.4, Eq. 8 with a ~ pi under the second expectation: Q = T^pi Q - beta log(pi / mu) minimises it.

    C.2 says E[KL(pi || mu)] = min over Q of L(Q); the minimum is -E[KL(pi || mu)].
    """
    best = targets - beta * np.log(pi / mu)
    divergence = conservatism.kl_divergence(pi, mu)
    minimum = soft_backup_loss(best, targets, pi, mu, beta)
    np.testing.assert_allclose(minimum, -divergence, atol=1e-12)
    above = soft_backup_loss(best + beta * q, targets, pi, mu, beta) - minimum
    np.testing.assert_allclose(above, pi @ excess(q), rtol=1e-9, atol=1e-12)
    # At Q = T^pi Q the loss is 0, so the minimum cannot be a positive divergence.
    np.testing.assert_allclose(soft_backup_loss(targets, targets, pi, mu, beta), 0.0, atol=1e-12)
    assume(divergence > 1e-3)
    assert minimum < 0.0 < divergence


@several
@given(distributions, distributions, triples, betas)
def test_printed_loss_does_not_regularise(pi, mu, targets, beta):
    """Lemma 3.4, Eq. 8 as printed: with mu under both expectations Q = T^pi Q minimises it."""
    at_targets = soft_backup_loss(targets, targets, mu, mu, beta)
    np.testing.assert_allclose(at_targets, 0.0, atol=1e-12)
    soft = targets - beta * np.log(pi / mu)
    at_soft = soft_backup_loss(soft, targets, mu, mu, beta)
    np.testing.assert_allclose(at_soft, mu @ excess(-np.log(pi / mu)), atol=1e-11)
    assume(np.abs(pi - mu).max() > 1e-2)
    assert at_soft > at_targets + 1e-6


@several
@given(triples, distributions, distributions, betas)
def test_the_policy_of_equation_13(q, mu, pi, beta):
    """Eq. 13: its maximum is V = L^beta_mu(Q), and another policy has beta * KL from the best one less."""
    best, v = conservatism.soft_policy(q, mu, beta), log_partition(q, beta, mu)
    np.testing.assert_allclose(soft_objective(best, q, mu, beta), v, atol=1e-12)
    less = v - soft_objective(pi, q, mu, beta)
    np.testing.assert_allclose(less, beta * conservatism.kl_divergence(pi, best), rtol=1e-9, atol=1e-11)


def test_the_soft_backup_charges_the_next_action():
    """Lemma 3.4's minimiser charges the current one; one state, r = 0, discount 1/2, beta 1."""
    pi, mu = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    discount, lemmas, softs = 0.5, np.zeros(2), np.zeros(2)
    for _ in range(60):
        lemmas = discount * pi @ lemmas - np.log(pi / mu)
        softs = np.full(2, discount * soft_objective(pi, softs, mu, 1.0))
    divergence = 0.75 * np.log(1.5) - 0.25 * np.log(2.0)
    np.testing.assert_allclose(softs, -divergence)
    np.testing.assert_allclose(lemmas, softs - np.log(pi / mu))
    np.testing.assert_allclose(pi @ lemmas, soft_objective(pi, softs, mu, 1.0))


def test_policies_where_mu_gives_no_weight():
    q, mu = [[9.0, 1.0, 0.0], [9.0, 0.0, 0.0]], [0.0, 0.5, 0.5]
    e = np.exp(1.0)
    np.testing.assert_allclose(conservatism.soft_policy(q, mu, 1.0), [[0.0, e / (1 + e), 1 / (1 + e)], mu])


@pytest.mark.parametrize("beta", [1e-6, 1e-300])
def test_a_common_level_of_q_costs_no_digits(beta):
    q, mu = np.array([1e8, 1e8 - 1e-6]), [0.3, 0.7]
    wanted = conservatism.soft_policy(q - q[0], mu, beta)
    np.testing.assert_array_equal(conservatism.soft_policy(q, mu, beta), wanted)


@pytest.mark.parametrize("value", [1e300, np.inf, -np.inf, np.nan])
def test_the_q_of_an_action_without_weight_is_of_no_account(value):
    policy = conservatism.soft_policy([0.0, value], [1.0, 0.0], 1e-9)
    np.testing.assert_array_equal(policy, [1.0, 0.0])


def test_a_noisy_action_has_more_weight_under_kl_than_under_chi_square():
    """C.2 says that CQL's chi^2 is easily affected by noisy actions, and the KL is not.

    Of 1% of the data, an action whose Q is 5 beta above the rest gets exp(5) / (99 + exp(5)) of the KL's
    policy, and 1% * (1 + 0.99 * 5 / 2) of the other. Among policies of one action both take mu's likeliest.
    """
    q, mu = [0.0, 5.0], np.array([0.99, 0.01])
    np.testing.assert_allclose(conservatism.kl_divergence(np.eye(2), mu), -np.log(mu))
    pi = np.linspace(0.0, 1.0, 40_001)[:, None] * [-1.0, 1.0] + [1.0, 0.0]  # all policies
    chi_square = ((pi - mu) ** 2 / mu).sum(-1)
    np.testing.assert_allclose(chi_square[[0, -1]], 1.0 / mu - 1.0)
    soft, cqls = conservatism.soft_policy(q, mu, 1.0)[1], pi[(pi @ q - chi_square).argmax(), 1]
    np.testing.assert_allclose([soft, cqls], [np.exp(5.0) / (99.0 + np.exp(5.0)), 0.03475])  # 0.600


def test_the_mean_of_the_lemmas_fixed_point_is_the_soft_value():
    """Lemma 3.4: its fixed point is Q - beta log(pi / mu), with the soft backup's Q; E_pi of it is V_pi."""
    generator, beta = np.random.default_rng(0), 0.5
    mdp = SoftMDP.random(generator, num_states=5, num_actions=3, discount=0.9, beta=beta)
    mu, pi = mdp.behavior, generator.dirichlet(np.ones(3), 5)
    lemmas, softs = np.zeros((2, 5, 3))
    divergence = conservatism.kl_divergence(pi, mu)
    for _ in range(400):
        lemmas = mdp.backup((pi * lemmas).sum(-1)) - beta * np.log(pi / mu)
        softs = mdp.backup((pi * softs).sum(-1) - beta * divergence)
    lemmas_mean, softs_mean = ((pi * q).sum(-1) for q in (lemmas, softs))
    np.testing.assert_allclose(lemmas, softs - beta * np.log(pi / mu))
    np.testing.assert_allclose(lemmas_mean, softs_mean - beta * divergence)
    charged = mdp.rewards - beta * np.log(pi / mu)
    v = dataclasses.replace(mdp, rewards=charged).expected_returns(pi)  # solved, not iterated
    np.testing.assert_allclose(lemmas_mean, v)
    assert (softs_mean - lemmas_mean > 0.01).all()  # so the two means of Q are not equal
