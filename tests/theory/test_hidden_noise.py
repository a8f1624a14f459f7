"""Appendix A.1: choices under hidden Gumbel noise against quadrature, closed forms and simulation."""

import dataclasses

import numpy as np
import pytest
from error_runs import DEVIATION, EULER, deterministic_mdp, discounts, instances, random_mdp, scales, seeds
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from xql_jax.theory import error_model
from xql_jax.theory.gumbel import Gumbel
from xql_jax.theory.soft_mdp import q_iteration


def softmax(x):
    return special.softmax(x, axis=-1)


def chi_square_p(choices, policy):
    """The p-value of counts [S, A] under the policy, all visited states together."""
    expected = choices.sum(-1, keepdims=True) * policy
    visited = choices.sum(-1) > 0
    assert expected[visited].min() > 5
    statistic = ((choices - expected)[visited] ** 2 / expected[visited]).sum()
    return stats.chi2.sf(statistic, visited.sum() * (choices.shape[1] - 1))


@pytest.mark.slow
@instances
@given(seeds, scales, discounts, st.sampled_from([-1.0, 0.0, 0.5]), st.sampled_from([2, 3, 4]))
def test_lemma_a1_hidden_gumbel_noise_gives_the_soft_bellman_equation(
    seed, beta, discount, location, actions
):
    """Lemma A.1: the solution satisfies Eq. 17-20, whose expectations are integrated numerically."""
    mdp = random_mdp(seed, num_actions=actions, discount=discount)
    noise = Gumbel(location, beta)
    solution = error_model.observed_solution(mdp, noise, 1e-11)
    choice, maximum = error_model.noisy_choice(solution.q, stats.gumbel_r(location, beta))
    np.testing.assert_allclose(solution.v, maximum, atol=1e-8)  # Eq. 18
    np.testing.assert_allclose(solution.q, mdp.backup(maximum), atol=1e-8)  # Eq. 19
    np.testing.assert_allclose(solution.policy, choice, atol=1e-8)  # Eq. 20
    soft = q_iteration(error_model.soft_equivalent(mdp, noise), 1e-11)
    np.testing.assert_allclose(soft.q, solution.q, atol=1e-8)


@pytest.mark.slow
@instances
@given(seeds, scales, discounts)
def test_eq_21_as_printed_holds_for_centred_noise_only(seed, beta, discount):
    """Eq. 21: without E[noise], q of G(0, beta) comes out low by discount * 0.577 * beta / (1 - discount)."""
    mdp = random_mdp(seed, discount=discount)
    printed = np.zeros(mdp.rewards.shape)
    for _ in range(130):
        printed = mdp.backup(beta * np.logaddexp.reduce(printed / beta, axis=-1))
    centred = error_model.observed_solution(mdp, error_model.centred_gumbel(beta), 1e-11).q
    np.testing.assert_allclose(printed, centred, atol=1e-8)
    uncentred = error_model.observed_solution(mdp, Gumbel(0.0, beta), 1e-11).q
    np.testing.assert_allclose(uncentred - printed, discount * EULER * beta / (1.0 - discount), atol=1e-8)
    # With L^beta of Eq. 1, a mean under mu, log A is missing as well.
    mean = q_iteration(
        dataclasses.replace(mdp, beta=beta, behavior=np.full(mdp.rewards.shape, 1 / 3)), 1e-11
    ).q
    missing = discount * beta * (np.log(3.0) + EULER) / (1.0 - discount)
    np.testing.assert_allclose(uncentred - mean, missing, atol=1e-8)


def test_eq_22_needs_the_temperature():
    """Eq. 22: with beta = 2 and q = (0, 2 log 3) the odds are 1 to 3; the printed softmax(q) has 1 to 9."""
    q = np.array([0.0, 2.0 * np.log(3.0)])
    choice, _ = error_model.noisy_choice(q, stats.gumbel_r(0.0, 2.0))
    np.testing.assert_allclose(choice, [0.25, 0.75], atol=1e-12)
    np.testing.assert_allclose(softmax(q), [0.1, 0.9], atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("location", [0.0, -EULER * 0.7])
def test_simulated_agents_earn_and_choose_as_lemma_a1_says(seed, location):
    """Lemma A.1: mean returns are v(start) and the choices softmax(q / beta), within sampling error."""
    mdp, noise, horizon = random_mdp(seed), Gumbel(location, 0.7), 60
    solution = error_model.observed_solution(mdp, noise)
    rollouts = error_model.simulate_choices(
        np.random.default_rng(seed),
        mdp,
        solution.q,
        noise.sample,
        start=1,
        num_agents=20_000,
        horizon=horizon,
    )
    beyond = mdp.discount**horizon * np.abs(solution.v).max()
    error = rollouts.returns.std() / np.sqrt(20_000)
    assert beyond < 0.01 * error
    assert abs(rollouts.returns.mean() - solution.v[1]) < 4.0 * error + beyond
    assert chi_square_p(rollouts.choices, softmax(solution.q / 0.7)) > 1e-4
    if location == 0.0:  # v of Eq. 21 as printed is out of reach
        printed = error_model.observed_solution(mdp, error_model.centred_gumbel(0.7)).v[1]
        assert rollouts.returns.mean() - printed > 50.0 * error


def test_simulation_follows_the_transitions_and_the_discount():
    # Without noise: action 1 everywhere, 0 -> 1 -> 2 -> 2, paying 1, 2 and then 4 each: 1 + 1 + 1 + 0.5.
    mdp = deterministic_mdp([[0, 1], [0, 2], [0, 2]], [[0, 1], [0, 2], [0, 4]], 0.5)
    rollouts = error_model.simulate_choices(
        np.random.default_rng(0),
        mdp,
        [[0.0, 1.0]] * 3,
        lambda generator, shape: np.zeros(shape),
        start=0,
        num_agents=5,
        horizon=4,
    )
    np.testing.assert_array_equal(rollouts.returns, np.full(5, 3.5))
    np.testing.assert_array_equal(rollouts.choices, [[0, 5], [0, 5], [0, 10]])


def test_gaussian_noise_of_the_same_variance_is_detected():
    """Corollary A.1.1: chosen under Gaussian noise, actions do not have the softmax frequencies."""
    mdp, beta = random_mdp(0), 0.7
    q = error_model.observed_solution(mdp, error_model.centred_gumbel(beta)).q

    def p_value(noise):
        rollouts = error_model.simulate_choices(
            np.random.default_rng(1), mdp, q, noise, start=0, num_agents=20_000, horizon=20
        )
        return chi_square_p(rollouts.choices, softmax(q / beta))

    assert p_value(error_model.centred_gumbel(beta).sample) > 1e-3
    assert p_value(lambda generator, shape: generator.normal(0.0, DEVIATION * beta, shape)) < 1e-9


@instances
@given(st.lists(st.integers(-40, 40), min_size=2, max_size=6), scales)
def test_eq_23_is_the_softmax_for_gumbel_noise(tenths, beta):
    """Eq. 23: the integral is softmax(q / beta), wherever the Gumbel law lies, and does not move with q."""
    q = 0.1 * beta * np.array(tenths)
    choice, maximum = error_model.noisy_choice(q + 5.0, stats.gumbel_r(-3.0, beta))
    np.testing.assert_allclose(choice, softmax(q / beta), atol=1e-10)
    np.testing.assert_allclose(maximum, 2.0 + beta * (special.logsumexp(q / beta) + EULER), atol=1e-10)


@instances
@given(st.integers(5, 20), st.integers(0, 20), st.sampled_from(["normal", "logistic", "mirrored"]))
def test_corollary_a11_other_noise_gives_no_softmax(gap, third, law):
    """Corollary A.1.1: in a softmax of any temperature a third action leaves the odds of two others alone."""
    distribution = {"normal": stats.norm(), "logistic": stats.logistic(), "mirrored": stats.gumbel_l()}[law]

    def log_odds(noise, value):
        choice, _ = error_model.noisy_choice([0.1 * gap, 0.0, value], noise)
        return np.log(choice[0] / choice[1])

    near, far = 0.1 * third - 0.5, -9.0
    assert abs(log_odds(stats.gumbel_r(), near) - log_odds(stats.gumbel_r(), far)) < 1e-9
    assert log_odds(distribution, near) - log_odds(distribution, far) > 0.01


@instances
@given(st.integers(-40, 40), scales)
def test_corollary_a11_fails_for_two_actions(tenths, beta):
    """Corollary A.1.1: its statement lacks N >= 3; for N = 2 mirrored Gumbel noise gives the softmax, too."""
    q = np.array([0.0, 0.1 * beta * tenths])
    choice, _ = error_model.noisy_choice(q, stats.gumbel_l(0.0, beta))
    np.testing.assert_allclose(choice, softmax(q / beta), atol=1e-10)


@instances
@given(st.lists(st.integers(-20, 0), min_size=1, max_size=4), scales)
def test_noise_of_mean_zero_is_overestimated(tenths, scale):
    """Eq. 24, below: E max(Q + noise) > max Q for zero-mean noise, by exactly what closed forms say."""
    q = 0.1 * scale * np.array([0, *tenths])
    _, gumbel = error_model.noisy_choice(q, stats.gumbel_r(-EULER * scale, scale))
    assert gumbel > 0.05 * scale
    np.testing.assert_allclose(gumbel, scale * special.logsumexp(q / scale), atol=1e-10)
    _, normal = error_model.noisy_choice(q, stats.norm(0.0, scale))
    assert normal > 0.05 * scale
    _, two = error_model.noisy_choice(q[:2], stats.norm(0.0, scale))
    z = -q[1] / (np.sqrt(2.0) * scale)
    # Clark's formula, with q[0] = 0.
    expected = q[1] * stats.norm.cdf(-z) + np.sqrt(2.0) * scale * stats.norm.pdf(z)
    np.testing.assert_allclose(two, expected, atol=1e-10)


def test_noisy_choice_takes_states_at_once():
    q = np.random.default_rng(0).normal(size=(2, 5, 3))
    choice, maximum = error_model.noisy_choice(q, stats.norm())
    one_choice, one_maximum = error_model.noisy_choice(q[1, 4], stats.norm())
    np.testing.assert_allclose(choice[1, 4], one_choice, atol=1e-14)
    np.testing.assert_allclose(maximum[1, 4], one_maximum, atol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mdp: error_model.soft_equivalent(mdp, Gumbel(0.0, 1.0, -1)), "noise must have sign 1.*-1"),
        (lambda mdp: error_model.centred_gumbel(0.0), "beta must be positive .*0.0"),
        (lambda mdp: error_model.noisy_choice([], stats.norm()), "q is empty"),
        (lambda mdp: error_model.noisy_choice([np.nan], stats.norm()), "q must be finite"),
        (
            lambda mdp: error_model.noisy_choice([0.0], stats.expon()),
            "distribution must have a smooth density",
        ),
        (
            lambda mdp: error_model.noisy_choice([0.0], stats.cauchy()),
            "distribution must have a smooth density",
        ),
        (lambda mdp: short_rollouts(mdp, start=-1), "start must be a state, 0 to 3, not -1"),
        (lambda mdp: short_rollouts(mdp, num_agents=0), "num_agents must be .*0"),
        (lambda mdp: short_rollouts(mdp, horizon=0), "horizon must be .*0"),
        (lambda mdp: short_rollouts(mdp, q=np.zeros((4, 2))), r"q must have the shape .*, not \(4, 2\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_mdp(0, num_successors=1))


def short_rollouts(mdp, **changes):
    arguments = {"q": np.zeros((4, 3)), "start": 0, "num_agents": 1, "horizon": 1} | changes
    noise = Gumbel(0.0, 1.0).sample
    return error_model.simulate_choices(np.random.default_rng(0), mdp, arguments.pop("q"), noise, **arguments)
