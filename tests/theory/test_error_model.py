"""Appendix A.2.1: errors that travel by Eq. 25 against Eq. 26, closed forms and the best policy."""

import dataclasses
import itertools

import numpy as np
import pytest
from error_runs import DEVIATION, EULER, deterministic_mdp, discounts, instances, random_mdp, scales, seeds
from hypothesis import given
from hypothesis import strategies as st

from xql_jax.theory import error_model

SAMPLES = np.zeros((2, 4, 3))


def loops(num_actions, discount):
    """One state, whose actions all stay and pay nothing."""
    return deterministic_mdp(np.zeros((1, num_actions), int), 0.0, discount)


def gumbel_distance(samples, location, scale):
    """The Kolmogorov-Smirnov distance of the draws [N, ...] to the laws G(location, scale)."""
    count = len(samples)
    cdf = np.exp(-np.exp(-(np.sort(samples, axis=0) - location) / scale))
    rank = np.arange(1, count + 1).reshape(-1, *[1] * (cdf.ndim - 1))
    return np.maximum(rank / count - cdf, cdf - (rank - 1) / count).max(0)


def test_one_step_by_hand():
    # Both actions of state 0 lead to state 1, whose location log 2, log 6 gives log 8 for scale 1; from there
    # to state 0, whose location 0, 0 gives log 2.
    mdp = deterministic_mdp([[1, 1], [0, 0]], [[0.0, 1.0], [2.0, 3.0]], 0.5)
    location, scale = error_model.evolve(mdp, [[0.0, 0.0], np.log([2.0, 6.0])], 1.0)
    expected = [
        [0.5 * np.log(8.0), 1.0 + 0.5 * np.log(8.0)],
        [2.0 + 0.5 * np.log(2.0), 3.0 + 0.5 * np.log(2.0)],
    ]
    np.testing.assert_allclose(location, expected, atol=1e-14)
    assert scale == 0.5


@instances
@given(seeds, scales, discounts)
def test_eq_26_holds_exactly_for_one_step(seed, beta, discount):
    """Eq. 26, corrected: a step of Eq. 25 from independent Gumbel draws has the law of `evolve`."""
    mdp = random_mdp(seed, num_successors=1, discount=discount)
    generator = np.random.default_rng(seed)
    start = generator.uniform(-beta, beta, mdp.rewards.shape)
    samples = start + generator.gumbel(0.0, beta, (4000, *start.shape))
    after = error_model.evolve_samples(mdp, samples)
    location, scale = error_model.evolve(mdp, start, beta)
    # 1.63 has the p-value 0.01, 3.2 has 3e-9.
    assert gumbel_distance(after, location, scale).max() < 3.2 / np.sqrt(4000)
    # Neither with the scale beta nor with Eq. 1's L^beta, a mean over actions, would it.
    assert gumbel_distance(after, location, beta).max() > 0.05
    assert gumbel_distance(after, location - scale * np.log(3.0), scale).min() > 0.2


@pytest.mark.slow
@instances
@given(seeds, scales, discounts)
def test_eq_26_holds_on_where_draws_are_made_independent(seed, beta, discount):
    """Eq. 26: with the draws of each pair shuffled between steps it describes three steps, in any MDP."""
    mdp = random_mdp(seed, num_states=3, num_actions=2, num_successors=1, discount=discount)
    generator = np.random.default_rng(seed)
    location, scale, count = generator.uniform(-beta, beta, mdp.rewards.shape), beta, 10_000
    samples = location + generator.gumbel(0.0, beta, (count, *location.shape))
    for step in range(3):
        samples = error_model.evolve_samples(mdp, error_model.independent(generator, samples))
        location, scale = error_model.evolve(mdp, location, scale)
        # A maximum over two pairs with the same draws rests on half as many of them.
        assert gumbel_distance(samples, location, scale).max() < 3.2 / np.sqrt(count / 2**step)


@instances
@given(seeds, scales, discounts)
def test_eq_26_fails_at_the_second_step_where_successors_are_shared(seed, beta, discount):
    """Eq. 26 assumes independence, which Eq. 25 does not keep: where the actions of a state share a
    successor, its errors are equal a step later, and their maximum is no larger than one of them.
    """
    generator = np.random.default_rng(seed)
    next_states = np.repeat(generator.integers(3, size=(3, 1)), 3, axis=1)
    rewards = generator.uniform(0.0, 0.5 * beta * discount, (3, 3))
    mdp = deterministic_mdp(next_states, rewards, discount)
    samples = generator.gumbel(0.0, beta, (4000, 3, 3))
    twice = error_model.evolve_samples(mdp, error_model.evolve_samples(mdp, samples))
    first, scale = error_model.evolve(mdp, np.zeros((3, 3)), beta)
    second, scale = error_model.evolve(mdp, first, scale)
    assert gumbel_distance(twice, second, scale).min() > 0.1  # of all pairs
    shared = rewards + discount * first.max(-1)[next_states]
    assert gumbel_distance(twice, shared, scale).max() < 3.2 / np.sqrt(4000)


def test_eq_26_needs_no_shuffling_in_a_tree():
    """Eq. 26: in a tree of two levels the root's errors have its law for two steps; then leaves repeat."""
    next_states = [[1, 2], [3, 4], [5, 6], *([leaf, leaf] for leaf in range(3, 7))]
    generator = np.random.default_rng(0)
    mdp = deterministic_mdp(next_states, generator.uniform(0.0, 0.1, (7, 2)), 0.9)
    location, scale = np.zeros((7, 2)), 1.0
    samples = generator.gumbel(0.0, 1.0, (20_000, 7, 2))
    distances = []
    for _ in range(3):
        samples = error_model.evolve_samples(mdp, samples)
        location, scale = error_model.evolve(mdp, location, scale)
        distances.append(gumbel_distance(samples, location, scale)[0].max())
    assert max(distances[:2]) < 2.0 / np.sqrt(20_000)
    assert distances[2] > 0.1


def test_shuffling_keeps_the_draws_and_parts_the_pairs():
    samples = np.repeat(np.random.default_rng(0).normal(size=(5000, 1, 1)), 3, axis=2)
    shuffled = error_model.independent(np.random.default_rng(1), samples)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(samples, axis=0))
    correlations = np.corrcoef(shuffled[:, 0].T)
    assert np.abs(correlations[~np.eye(3, dtype=bool)]).max() < 4.0 / np.sqrt(5000)


@instances
@given(seeds, discounts)
def test_optimal_q_is_that_of_the_best_policy(seed, discount):
    mdp = random_mdp(seed, num_states=3, num_successors=1, discount=discount)
    states = np.arange(3)
    values = []
    for policy in itertools.product(range(3), repeat=3):
        dynamics = np.eye(3)[mdp.next_states[states, policy, 0]]
        values.append(np.linalg.solve(np.eye(3) - discount * dynamics, mdp.rewards[states, policy]))
    np.testing.assert_allclose(error_model.optimal_q(mdp), mdp.backup(np.max(values, axis=0)), atol=1e-11)


@pytest.mark.slow
@instances
@given(seeds, scales, st.sampled_from([0.3, 0.6]))
def test_the_process_collapses_to_the_optimum(seed, beta, discount):
    """A.2.1: scale gamma^t beta; the location ends at Q* within gamma^t (|first error| + t beta log A)."""
    mdp = random_mdp(seed, num_successors=1, discount=discount)
    optimum = error_model.optimal_q(mdp)
    location, scale = np.random.default_rng(seed).normal(size=mdp.rewards.shape), beta
    first = np.abs(location - optimum).max()
    for step in range(1, 71):
        location, scale = error_model.evolve(mdp, location, scale)
        bound = discount**step * (first + step * beta * np.log(3.0))
        assert np.abs(location - optimum).max() <= bound + 1e-11
        np.testing.assert_allclose(scale, discount**step * beta, rtol=1e-12)
    assert np.abs(location - optimum).max() < 1e-10


def test_the_bias_does_not_contract():
    """A.2.1, "the bias will decay as gamma-contraction": by Eq. 26 it rises from 0, then falls as t gamma^t.

    One state with two equal actions: Q* = 0, and each step adds gamma^t beta log 2 to the mean. A
    soft-Bellman equation with a fixed beta would end at gamma beta log 2 / (1 - gamma) and not at Q*.
    """
    mdp, beta = loops(2, 0.8), 0.5
    location, scale = np.full((1, 2), -EULER * beta), beta
    biases = [0.0]
    for _ in range(300):
        location, scale = error_model.evolve(mdp, location, scale)
        biases.append(float(location[0, 0] + EULER * scale))
    steps = np.arange(301)
    np.testing.assert_allclose(biases, steps * 0.8**steps * beta * np.log(2.0), atol=1e-12)
    assert biases[3] > biases[2] > biases[1] > biases[0]
    assert biases[-1] < 1e-20
    soft = error_model.observed_solution(mdp, error_model.centred_gumbel(beta), 1e-11).q
    np.testing.assert_allclose(soft, 0.8 * beta * np.log(2.0) / 0.2, atol=1e-9)


@instances
@given(seeds, discounts)
def test_errors_of_each_draw_contract(seed, discount):
    """A.2.1: by Eq. 25 the largest error of a draw shrinks by gamma a step, whatever its law."""
    mdp = random_mdp(seed, num_successors=1, discount=discount)
    optimum = error_model.optimal_q(mdp)
    samples = optimum + np.random.default_rng(seed).standard_cauchy((20, *optimum.shape))
    for _ in range(5):
        before = np.abs(samples - optimum).max((1, 2))
        samples = error_model.evolve_samples(mdp, samples)
        assert (np.abs(samples - optimum).max((1, 2)) <= discount * before * (1 + 1e-12) + 1e-11).all()


def test_zero_mean_errors_get_a_bias_by_eq_25():
    """A.2.1: the mean error is no contraction by Eq. 25 either; from 0 it goes to gamma beta log 2."""
    mdp = loops(2, 0.8)
    samples = error_model.centred_gumbel(1.0).sample(np.random.default_rng(0), (40_000, 1, 2))
    means = []
    for _ in range(3):
        samples = error_model.evolve_samples(mdp, samples)
        means.append(samples.mean())
    error = DEVIATION / np.sqrt(40_000)
    np.testing.assert_allclose(means, np.log(2.0) * 0.8 ** np.array([1, 2, 3]), atol=4.0 * error)


def test_no_scale_is_the_hard_bellman_equation():
    mdp = random_mdp(0, num_successors=1)
    location = np.random.default_rng(1).normal(size=mdp.rewards.shape)
    hard, scale = error_model.evolve(mdp, location, 0.0)
    assert scale == 0.0
    np.testing.assert_array_equal(hard, error_model.evolve_samples(mdp, location[None])[0])
    np.testing.assert_allclose(error_model.evolve(mdp, location, 1e-12)[0], hard, atol=1e-11)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda mdp: error_model.evolve(mdp, np.zeros((3, 4)), 1.0),
            r"location must have the shape .*, not \(3, 4\)",
        ),
        (lambda mdp: error_model.evolve(mdp, np.full((4, 3), np.nan), 1.0), "location must be finite"),
        (lambda mdp: error_model.evolve(mdp, np.zeros((4, 3)), -1.0), "scale must be positive.* -1.0"),
        (lambda mdp: error_model.evolve(mdp, np.zeros((4, 3)), np.nan), "scale must be positive.* nan"),
        (lambda mdp: error_model.evolve_samples(mdp, SAMPLES[:0]), "samples is empty"),
        (lambda mdp: error_model.evolve_samples(mdp, SAMPLES[..., :2]), r"samples .*\(2, 4, 2\)"),
        (lambda mdp: error_model.evolve_samples(mdp, SAMPLES + np.inf), "samples must be finite, not inf"),
        (lambda mdp: error_model.optimal_q(mdp, 0.0), "tolerance must be positive .*0.0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_mdp(0, num_successors=1))


@pytest.mark.parametrize(
    "call",
    [
        lambda mdp: error_model.evolve(mdp, np.zeros((4, 3)), 1.0),
        lambda mdp: error_model.evolve_samples(mdp, SAMPLES),
        error_model.optimal_q,
    ],
)
def test_stochastic_dynamics_are_refused(call):
    """A.2.1 assumes deterministic dynamics."""
    mdp = random_mdp(3, num_successors=4)
    with pytest.raises(ValueError, match=r"mdp must be deterministic.* action 0 in state 0 can lead to"):
        call(mdp)


def test_repeated_and_impossible_successors_are_deterministic():
    mdp = deterministic_mdp([[1, 0], [0, 0]], [[1.0, 0.0], [2.0, 0.5]], 0.5)
    padded = dataclasses.replace(
        mdp,
        next_states=np.stack([1 - mdp.next_states[..., 0], *[mdp.next_states[..., 0]] * 2], axis=-1),
        probabilities=np.broadcast_to([0.0, 0.5, 0.5], (2, 2, 3)),
    )
    np.testing.assert_array_equal(error_model.optimal_q(padded), error_model.optimal_q(mdp))
