"""Soft value iteration against numbers worked by hand, its fixed point and its two limits."""

import dataclasses

import numpy as np
import pytest
from scipy.special import logsumexp

from xql_jax.theory.soft_mdp import SoftMDP

NAN = float("nan")


def random_mdp(seed=0, num_states=5, num_actions=3, **changes):
    """Stochastic transitions; mu leaves out the best-paid action of state 0."""
    generator = np.random.default_rng(seed)
    behavior = generator.dirichlet(np.ones(num_actions), num_states)
    rewards = generator.normal(size=(num_states, num_actions))
    rewards[0, 0], behavior[0] = 50.0, [0.0, *np.full(num_actions - 1, 1 / (num_actions - 1))]
    transitions = generator.dirichlet(np.ones(num_states), (num_states, num_actions))
    return SoftMDP(transitions, rewards, behavior, **({"discount": 0.9, "beta": 0.7} | changes))


def test_two_states_by_hand():
    # State 1 pays 1 for ever: V = 1 / (1 - 1/2) = 2 whatever its action. From state 0 both actions lead there
    # with rewards beta log 2 - 1 and beta log 4 - 1: Q is beta log 2 and beta log 4, V is beta log(6 / 2).
    beta = 0.3
    transitions = np.zeros((2, 2, 2))
    transitions[:, :, 1] = 1.0
    rewards = np.array([beta * np.log([2.0, 4.0]) - 1.0, [1.0, 1.0]])
    mdp = SoftMDP(transitions, rewards, np.full((2, 2), 0.5), discount=0.5, beta=beta)
    v, q = mdp.solve(1e-12)
    np.testing.assert_allclose(v, [beta * np.log(3.0), 2.0], atol=1e-12)
    np.testing.assert_allclose(q, [beta * np.log([2.0, 4.0]), [2.0, 2.0]], atol=1e-12)
    np.testing.assert_allclose(mdp.policy(q, v), [[1 / 3, 2 / 3], [0.5, 0.5]], atol=1e-12)


@pytest.mark.parametrize("beta", [0.05, 0.7, 20.0])
def test_solution_is_the_fixed_point(beta):
    mdp = random_mdp(beta=beta)
    v, q = mdp.solve(1e-11)
    np.testing.assert_allclose(q, mdp.rewards + 0.9 * np.einsum("san,n->sa", mdp.transitions, v), atol=1e-10)
    np.testing.assert_allclose(v, beta * logsumexp(q / beta, b=mdp.behavior, axis=-1), atol=1e-10)


@pytest.mark.parametrize("tolerance", [1.0, 1e-3, 1e-8])
def test_tolerance_bounds_the_error(tolerance):
    exact, _ = random_mdp().solve(1e-12)
    v, _ = random_mdp().solve(tolerance)
    assert np.abs(v - exact).max() <= tolerance


def test_small_beta_is_value_iteration_over_the_support():
    mdp = random_mdp(beta=1e-9)
    v = np.zeros(5)
    for _ in range(400):
        q = mdp.rewards + 0.9 * mdp.transitions @ v
        v = np.where(mdp.behavior > 0, q, -np.inf).max(-1)
    np.testing.assert_allclose(mdp.solve(1e-10)[0], v, atol=1e-6)
    assert v[0] < 40  # the 50 that mu never takes is not counted


def test_large_beta_is_evaluation_of_mu():
    mdp = random_mdp(beta=1e7)
    reward = (mdp.behavior * mdp.rewards).sum(-1)
    dynamics = np.einsum("sa,san->sn", mdp.behavior, mdp.transitions)
    expected = np.linalg.solve(np.eye(5) - 0.9 * dynamics, reward)
    np.testing.assert_allclose(mdp.solve(1e-10)[0], expected, atol=1e-5)


def test_values_fall_with_beta():
    values = [random_mdp(beta=beta).solve(1e-10)[0] for beta in (0.1, 1.0, 10.0)]  # Lemma 3.1
    assert (values[0] > values[1]).all()
    assert (values[1] > values[2]).all()


@pytest.mark.parametrize("seed", range(5))
def test_backup_contracts(seed):
    mdp = random_mdp()
    a, b = np.random.default_rng(seed).normal(scale=5.0, size=(2, 5))
    image_a, image_b = (mdp.soft_value(mdp.backup(v)) for v in (a, b))
    assert np.abs(image_a - image_b).max() <= 0.9 * np.abs(a - b).max()
    # Along the constant direction the modulus is attained.
    np.testing.assert_allclose(mdp.soft_value(mdp.backup(a + 1.0)) - image_a, 0.9, atol=1e-12)


@pytest.mark.parametrize("beta", [1e-3, 0.7, 100.0])
def test_policy_sums_to_one_within_the_support(beta):
    mdp = random_mdp(beta=beta)
    v, q = mdp.solve(1e-12)
    policy = mdp.policy(q, v)
    np.testing.assert_allclose(policy.sum(-1), 1.0, atol=1e-9)
    assert policy[0, 0] == 0.0  # the action that pays 50, outside mu


def test_policy_is_optimal_for_the_regularised_return():
    # Section 2.1: where every step also pays -beta log(pi / mu), Eq. 2's policy earns V*, and no other more.
    mdp = random_mdp()
    v, q = mdp.solve(1e-12)

    def value(policy):
        ratio = np.divide(policy, mdp.behavior, out=np.ones_like(policy), where=policy > 0)
        reward = (policy * (mdp.rewards - mdp.beta * np.log(ratio))).sum(-1)
        dynamics = np.einsum("sa,san->sn", policy, mdp.transitions)
        return np.linalg.solve(np.eye(5) - 0.9 * dynamics, reward)

    best = mdp.policy(q, v)
    np.testing.assert_allclose(value(best), v, atol=1e-9)
    assert (value(mdp.behavior) < v).all()
    assert (value(0.9 * best + 0.1 * mdp.behavior) < v).all()


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
    np.testing.assert_allclose(mdp.transitions[0], [[0, 1, 0], [1 / 3, 0, 2 / 3]])
    v, q = mdp.solve(1e-12)
    np.testing.assert_array_equal(v[1:], 0.0)
    np.testing.assert_allclose(q[0], [5.0, 3.0 + v[0] / 6], atol=1e-12)


@pytest.mark.parametrize(("state", "action"), [(-1, 0), (3, 0), (0, 2)])
def test_index_out_of_range_is_refused(state, action):
    with pytest.raises(ValueError, match="invalid entry"):
        SoftMDP.from_transitions(
            np.array([state]),
            np.array([action]),
            np.ones(1),
            np.array([0]),
            num_states=3,
            num_actions=2,
            discount=0.5,
            beta=1.0,
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 0.0}, "beta"),
        ({"beta": -1.0}, "beta"),
        ({"beta": NAN}, "beta"),
        ({"beta": np.inf}, "beta"),
        ({"discount": 1.0}, "discount"),
        ({"discount": -0.1}, "discount"),
        ({"discount": NAN}, "discount"),
        ({"behavior": np.full((5, 3), 0.3)}, "behavior .*sum to 1"),
        ({"behavior": np.tile([1.5, -0.5, 0.0], (5, 1))}, "behavior .*sum to 1"),
        ({"transitions": np.full((5, 3, 5), 0.19)}, "transitions .*sum to 1"),
        ({"transitions": np.full((5, 3, 4), 0.25)}, "transitions has shape"),
        ({"rewards": np.zeros((5, 2))}, "rewards has shape"),
        ({"rewards": np.full((5, 3), NAN)}, "rewards must be finite"),
    ],
)
def test_impossible_mdp_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(random_mdp(), **changes)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, NAN])
def test_impossible_tolerance_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        random_mdp().solve(tolerance)


def test_no_discount_needs_no_iteration():
    mdp = random_mdp(discount=0.0)
    v, q = mdp.solve(1e-12)
    np.testing.assert_array_equal(q, mdp.rewards)
    np.testing.assert_array_equal(v, mdp.soft_value(mdp.rewards))
