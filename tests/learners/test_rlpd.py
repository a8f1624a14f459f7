"""RLPD: what a random subset of critics gives as targets, what the policy climbs, and its entropy."""

import collections

import jax
import numpy as np
import pytest
from learner_runs import FROZEN, init, make, update
from online_runs import (
    MEANS,
    SLOPES,
    STATE_TERMS,
    STDS,
    gradient,
    linear_critics,
    min_q,
    one_hot_states,
    policy_nodes,
    prepared,
)

COEFFICIENT = 0.4
LINEAR = {"hidden_dims": (), "initial_entropy_coef": COEFFICIENT, "actor_period": 1}


def critics_above(state, terms):
    """The state with Q_i(s, a) = terms[i] in the target critics and 10 more in the critics themselves."""
    params, target = (
        linear_critics(np.repeat(np.array(terms)[:, None] + more, 3, axis=1), np.zeros((len(terms), 1)))
        for more in (10.0, 0.0)
    )
    return state.replace(critic=state.critic.replace(params=params, target=target))


def targets_of(learner, state, key):
    """What Q learns from: a critic's weight of a state has the slope 2 (Q - target) / 3."""
    batch = one_hot_states(3, repeats=4)
    after, _ = update(learner, state, batch, key)
    slopes = [kernel["params"]["Dense_0"]["kernel"][:3, 0] for kernel in gradient(after.critic)]
    values = [params["params"]["Dense_0"]["kernel"][:3, 0] for params in state.critic.params]
    return np.array([value - 1.5 * slope for value, slope in zip(values, slopes, strict=True)])


@pytest.mark.slow
def test_targets_are_the_least_of_two_critics_drawn_at_random():
    """Three critics at 1, 2 and 4 give 1, 1 and 2 by pairs; all critics learn from the same."""
    learner = make("rlpd", num_critics=3, num_min_critics=2, discount=0.5, backup_entropy=False, **LINEAR)
    state = critics_above(init(learner, one_hot_states(3, repeats=4)), [1.0, 2.0, 4.0])
    found = collections.Counter()
    for number in range(120):
        targets = targets_of(learner, state, jax.random.key(number))
        assert np.ptp(targets) < 1e-5
        found[round(float(targets.mean()), 4)] += 1
    assert found.keys() == {0.5, 1.0}
    assert 20 < found[1.0] < 60  # a third of 120, within four standard deviations


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_subset_has_that_many_different_critics(number):
    learner = make("rlpd", num_critics=3, num_min_critics=number, **LINEAR)
    state = critics_above(init(learner, one_hot_states(3, repeats=4)), [1.0, 2.0, 4.0])
    seen = collections.Counter()
    for seed in range(60):
        drawn = learner.subset(state.critic.target, jax.random.key(seed))
        terms = [float(params["params"]["Dense_0"]["kernel"][0, 0]) for params in drawn]
        assert len(set(terms)) == number
        seen.update(terms)
    assert all(seen[term] > 60 * number / 3 - 20 for term in (1.0, 2.0, 4.0))


@pytest.mark.parametrize("backup_entropy", [True, False])
def test_of_all_critics_it_is_sacs_target(backup_entropy):
    """E[min Q - entropy_coef * log pi] at the next state, by quadrature; or without the entropy."""
    learner = make("rlpd", num_critics=2, discount=0.9, backup_entropy=backup_entropy, **LINEAR)
    batch = one_hot_states(3, repeats=4096)
    state = prepared(learner, batch)
    after, _ = update(learner, state, batch, jax.random.key(0))
    expected = []
    for index in range(3):
        actions, weights, log_probs = policy_nodes(MEANS[index, 0], STDS[index, 0])
        expected.append(weights @ (min_q(index, actions) - backup_entropy * COEFFICIENT * log_probs))
    for critic, kernel in enumerate(gradient(after.critic)):
        slope = kernel["params"]["Dense_0"]["kernel"][:3, 0]
        error = STATE_TERMS[critic] - 0.9 * np.array(expected)
        np.testing.assert_allclose(slope, 2 * error / 3, atol=0.03)


def test_the_policy_climbs_the_mean_of_the_critics():
    """Their mean has the slope 1 everywhere; SAC's least of the two has 3 or -1."""
    learner = make("rlpd", num_critics=2, critic_lr=FROZEN, **{**LINEAR, "initial_entropy_coef": 1e-6})
    batch = one_hot_states(3, repeats=8192)
    after, _ = update(learner, prepared(learner, batch), batch, jax.random.key(0))
    slope = gradient(after.policy)["params"]["Dense_0"]["kernel"][:, 0]
    expected = []
    for mean, std in zip(MEANS[:, 0], STDS[:, 0], strict=True):
        actions, weights, _ = policy_nodes(mean, std)
        expected.append(SLOPES.mean() * weights @ (1.0 - actions**2))  # d tanh(u) / d mean
    np.testing.assert_allclose(-3 * slope, expected, rtol=0.05)
