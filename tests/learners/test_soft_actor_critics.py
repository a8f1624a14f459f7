"""SAC, X-SAC and RLPD: what V, Q, the policy and the coefficient learn, against quadrature over actions."""

import collections

import jax
import jax.numpy as jnp
import linear_runs as runs
import numpy as np
import pytest
from learner_runs import FROZEN, flat, init, make, make_batch, update
from linear_runs import SLOPES, STATE_TERMS, gradient, mean_of, prepared, slopes_of

from xql_jax.learners.fields import with_hyperparameters

COEFFICIENT = 0.4
LINEAR = {"hidden_dims": (), "initial_entropy_coef": COEFFICIENT}
TERMINAL_REWARD = 0.7


def log_mean_exp(beta):
    """beta * log E_pi[exp(min Q / beta)] in each state."""
    return beta * np.log(mean_of(lambda s, a, _: np.exp(runs.min_q(s, a) / beta)))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("xsac", {"beta": 0.5}, log_mean_exp(0.5)),  # Eq. 11 with a ~ pi_k(.|s) and no log-probabilities
        pytest.param("xsac", {"beta": 100.0}, log_mean_exp(100.0), marks=pytest.mark.slow),
        pytest.param("sac", {}, runs.soft_values(COEFFICIENT), marks=pytest.mark.slow),
    ],
)
def test_v_learns_its_value_of_the_policy(name, options, expected):
    """Within 1%."""
    learner, batch = make(name, **LINEAR, **options), runs.one_hot_states(3, repeats=256)
    state = runs.train_alone(learner, prepared(learner, batch), batch, "value_lr")
    np.testing.assert_allclose(state.value(jnp.eye(3)), expected, atol=0.01 * np.ptp(expected))


@pytest.mark.parametrize(
    ("name", "options", "coefficient"),
    [
        ("sac", {"uses_value_network": False}, COEFFICIENT),
        ("rlpd", {"num_critics": 2}, COEFFICIENT),  # of all critics it is SAC's target
        ("rlpd", {"num_critics": 2, "backup_entropy": False}, 0.0),
    ],
)
@pytest.mark.parametrize("mask", [0.0, 1.0])
def test_q_without_v_learns_from_the_soft_value_of_the_next_state(name, options, coefficient, mask):
    learner = make(name, discount=0.9, **LINEAR, **options)
    batch = runs.one_hot_states(3, repeats=4096)
    batch = batch._replace(rewards=batch.rewards + TERMINAL_REWARD, masks=mask * batch.masks)
    state = prepared(learner, batch)
    assert state.value is None
    # The critics themselves lie 1 above their targets.
    state = runs.with_critics(state, (STATE_TERMS + 1, SLOPES), (STATE_TERMS, SLOPES))
    state, _ = update(learner, state, batch, jax.random.key(0))
    targets = TERMINAL_REWARD + 0.9 * mask * runs.soft_values(coefficient)
    for critic, slope in enumerate(slopes_of(state.critic)):
        # The actions are 0. A state's weight has the slope 2 (Q - target), shared by the three states.
        np.testing.assert_allclose(slope[:3, 0], 2 * (STATE_TERMS[critic] + 1 - targets) / 3, atol=0.03)


def test_q_with_v_learns_from_the_target_v():
    learner = make("sac", discount=0.9, **LINEAR)
    batch = runs.one_hot_states(3, repeats=2)._replace(masks=jnp.array([1.0, 1.0, 0.0] * 2))
    batch = batch._replace(rewards=batch.rewards + TERMINAL_REWARD)
    state = prepared(learner, batch)
    target = runs.linear([[1.0], [2.0], [3.0]], bias=0.5)
    state = state.replace(value=state.value.replace(target=target))
    state, metrics = update(learner, state, batch, jax.random.key(0))
    targets = TERMINAL_REWARD + 0.9 * np.array([1.5, 2.5, 0.0])
    errors = STATE_TERMS - targets
    for slope, error in zip(slopes_of(state.critic), errors, strict=True):
        np.testing.assert_allclose(slope[:3, 0], 2 * error / 3, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["critic/loss"], (errors**2).mean(axis=1).sum(), rtol=1e-5)  # the sum


@pytest.mark.parametrize("name", ["sac", "td3", "td3_bc", "rebrac"])
def test_v_and_the_policy_learn_from_the_new_q(name):
    """The order of the authors' code: Q, then V, then pi."""
    learner, batch, key = make(name, critic_lr=0.1, actor_period=1), make_batch(), jax.random.key(0)
    state = init(learner, batch)
    after, _ = update(learner, state, batch, key)
    moved = state.replace(critic=after.critic)
    expected, _ = update(with_hyperparameters(learner, {"critic_lr": FROZEN}), moved, batch, key)
    for part in ("value", "policy") if name == "sac" else ("policy",):  # with the coefficient
        learnt, wanted = (flat(getattr(state, part)) for state in (after, expected))
        np.testing.assert_allclose(learnt, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("uses_value_network", [True, False])
def test_the_actor_climbs_the_soft_value(uses_value_network):
    learner = make("sac", critic_lr=FROZEN, uses_value_network=uses_value_network, **LINEAR)
    batch = runs.one_hot_states(3, repeats=8192)
    state, _ = update(learner, prepared(learner, batch), batch, jax.random.key(0))
    expected = runs.slopes_of_soft_values(COEFFICIENT)
    np.testing.assert_allclose(-3 * slopes_of(state.policy), expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize(("std", "sign"), [(0.01, 1.0), (0.8, -1.0)])
def test_coefficient_rises_below_the_target_entropy_and_falls_above(std, sign):
    """The target is -A nats; with a small std the policy's entropy lies below it, with a large one above."""
    action_dim = 2
    learner = make("sac", (), initial_entropy_coef=0.3, entropy_coef_lr=0.01)
    batch = runs.one_hot_states(1, repeats=512, num_actions=action_dim)
    state = init(learner, batch)
    actor = runs.linear_actor(np.zeros((1, action_dim)), np.full((1, action_dim), std))
    state = state.replace(policy=state.policy.replace(params=actor))
    after, metrics = update(learner, state, batch, jax.random.key(0))

    _, weights, log_probs = runs.policy_nodes(0.0, std)
    entropy = -action_dim * (weights @ log_probs)
    assert np.sign(-action_dim - entropy) == sign
    np.testing.assert_allclose(metrics["actor/entropy"], entropy, atol=0.15)
    # d/d log_coef of coef * (entropy - target) is 0.3 * (entropy + A); Adam's first step is the rate.
    expected = 0.3 * (metrics["actor/entropy"] + action_dim)
    np.testing.assert_allclose(gradient(after.policy.log_entropy_coef), expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy_coef"], 0.3 * np.exp(0.01 * sign), rtol=1e-4)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_subset_has_that_many_different_critics(number):
    learner, seen = make("rlpd", num_min_critics=number), collections.Counter()
    for seed in range(60):
        drawn = [float(x) for x in learner.subset(tuple(jnp.arange(3.0)), jax.random.key(seed))]
        assert len(set(drawn)) == number
        seen.update(drawn)
    assert all(seen[critic] > 60 * number / 3 - 20 for critic in range(3))


def test_the_policy_climbs_the_mean_of_the_critics():
    """Their mean has the slope 1 everywhere; SAC's least of the two has 3 or -1."""
    settings = {"num_critics": 2, "critic_lr": FROZEN, "initial_entropy_coef": 1e-6, "actor_period": 1}
    learner = make("rlpd", (), **settings)
    batch = runs.one_hot_states(3, repeats=8192)
    after, _ = update(learner, prepared(learner, batch), batch, jax.random.key(0))
    expected = SLOPES.mean() * mean_of(lambda s, a, _: 1.0 - a**2)  # d tanh(u) / d mean
    np.testing.assert_allclose(-3 * slopes_of(after.policy)[:, 0], expected, rtol=0.05)
