"""Appendix A.2.1: errors that travel, against closed forms, integrals and the best policy."""

import numpy as np
import pytest
from cases import EULER, deterministic_mdp, discounts, instances, observed_solution, random_mdp, scales, seeds
from hypothesis import given

from xql_jax.theory import error_model


def gumbel_distance(samples, location, scale):
    """The Kolmogorov-Smirnov distance of the draws [N, ...] to the laws G(location, scale)."""
    count = len(samples)
    cdf = np.exp(-np.exp(-(np.sort(samples, axis=0) - location) / scale))
    rank = np.arange(1, count + 1).reshape(-1, *[1] * (cdf.ndim - 1))
    return np.maximum(rank / count - cdf, cdf - (rank - 1) / count).max(0)


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


def test_the_bias_does_not_contract():
    """A.2.1, "the bias will decay as gamma-contraction": by Eq. 26 it rises from 0, then falls as t gamma^t.

    One state with two equal actions: Q* = 0, and each step adds gamma^t beta log 2 to the mean. A
    soft-Bellman equation with a fixed beta would end at gamma beta log 2 / (1 - gamma) and not at Q*.
    """
    beta = 0.5
    mdp = deterministic_mdp(np.zeros((1, 2), int), 0.0, 0.8)
    location, scale = np.full((1, 2), -EULER * beta), beta
    biases = [0.0]
    for _ in range(300):
        location, scale = error_model.evolve(mdp, location, scale)
        biases.append(float(location[0, 0] + EULER * scale))
    steps = np.arange(301)
    np.testing.assert_allclose(biases, steps * 0.8**steps * beta * np.log(2.0), atol=1e-12)
    assert biases[3] > biases[2] > biases[1] > biases[0]
    assert biases[-1] < 1e-20
    soft = observed_solution(mdp, -EULER * beta, beta, 1e-11).q
    np.testing.assert_allclose(soft, 0.8 * beta * np.log(2.0) / 0.2, atol=1e-9)


def test_the_wave_runs_to_parents():
    """A.2.1, "a wave": in a corridor of one-way moves the error is, after t steps, t states *before* its
    source, Gumbel with gamma^t times its deviation; no child sees it.
    """
    generator = np.random.default_rng(0)
    corridor = deterministic_mdp([[1], [2], [3], [4], [5], [5]], 1.0, 0.9)
    simulated = error_model.error_wave(generator, corridor, 2.0, state=3, steps=4, num_samples=20_000)
    steps = np.arange(4)
    crest = simulated[steps, 3 - steps]
    np.testing.assert_allclose(crest, 0.9**steps * 2.0 * np.pi / np.sqrt(6.0), atol=0.06)
    simulated[steps, 3 - steps] = 0.0
    assert simulated.max() < 1e-12


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_a_wave_needs_a_scale(scale):
    corridor = deterministic_mdp([[1], [1]], 1.0, 0.9)
    with pytest.raises(ValueError, match="scale must be positive and finite"):
        error_model.error_wave(np.random.default_rng(0), corridor, scale, state=1, steps=1, num_samples=2)
