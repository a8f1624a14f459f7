"""Actor-critics with stochastic policies: V, Q, the policy and SAC's coefficient, against quadrature."""

import collections

import jax
import jax.numpy as jnp
import linear_runs as runs
import numpy as np
import pytest
from learner_runs import FROZEN, fitting, flat, init, make, make_batch, update
from linear_runs import SLOPES, STATE_TERMS, gradient, mean_of, prepared, slopes_of

from xql_jax.settings import replaced, values_of

COEFFICIENT = 0.4
WITHOUT_V = {"uses_value_network": False}
PLAIN = {"beta": 1.0, "loss": "plain", "clip": 30.0}
# No penalties, and the policy at every update, in the methods that have such.
COMMON = {"initial_entropy_coef": COEFFICIENT, "cql_alpha": 0.0, "cql_actions": 1, "actor_period": 1}


def linear(name, **options):
    """The method with linear networks and, where it has them, the common settings."""
    known = values_of(make(name))
    return make(name, (), **{key: value for key, value in COMMON.items() if key in known} | options)


@pytest.mark.parametrize(
    ("name", "options"), [("sac", {}), ("xsac", {"beta": 1.0, "loss": "plain", "clip": 30})]
)
def test_the_slope_of_v(name, options):
    """SAC: squared errors of the soft value. X-SAC: Eq. 11 with a ~ pi_k(.|s) and no log-probabilities."""
    learner, batch = linear(name, **options), runs.one_hot_states(3, repeats=16384)
    v, state = np.array([1.0, 2.0, 0.5]), prepared(learner, batch)
    state = state.replace(value=state.value.replace(params=runs.linear(v[:, None])))
    state, _ = update(learner, state, batch, jax.random.key(0))
    expected = 2 * (v - runs.soft_values(COEFFICIENT))
    if name == "xsac":
        expected = 1 - mean_of(lambda s, a, _: np.exp(runs.min_q(s, a) - v[s]))
    np.testing.assert_allclose(3 * slopes_of(state.value)[:, 0], expected, atol=0.05)


@pytest.mark.parametrize(
    ("name", "options", "values"),
    [
        ("sac", {}, np.array([1.5, 2.5, -0.5])),  # what its target V is set to
        ("sac", WITHOUT_V, runs.soft_values(COEFFICIENT)),
        ("rlpd", {"num_critics": 2}, runs.soft_values(COEFFICIENT)),  # of all critics it is SAC's target
        ("rlpd", {"num_critics": 2, "backup_entropy": False}, runs.soft_values()),
        ("cql", {}, runs.soft_values()),
        ("cql", {"deterministic_backup": False}, runs.soft_values(COEFFICIENT)),
        ("cal_ql", {"backup_actions": 4}, runs.value_of_the_best(4)),
        ("brac_p", {}, runs.soft_values()),
        ("bear", {"backup_actions": 10, "min_share": 0.75}, runs.value_of_the_best(10, 0.75)),
    ],
)
def test_q_learns_from_the_next_values_of_the_targets(name, options, values):
    """The critics lie 1 above their targets; the second state is followed by the first, the third ends."""
    learner, batch = linear(name, discount=0.9, **options), runs.one_hot_states(3, repeats=4096)
    following = jnp.roll(batch.observations, -1, axis=-1)
    batch = batch._replace(
        rewards=batch.rewards + 0.7, masks=1.0 - batch.observations[:, 2], next_observations=following
    )
    state = runs.with_critics(prepared(learner, batch), (STATE_TERMS + 1, SLOPES), (STATE_TERMS, SLOPES))
    if state.value is not None:
        state = state.replace(value=state.value.replace(target=runs.linear(values[:, None])))
    state, _ = update(learner, state, fitting(learner, batch), jax.random.key(0))
    targets = 0.7 + 0.9 * np.array([values[2], values[0], 0.0])
    for critic, slope in enumerate(slopes_of(state.critic)):
        # The actions are 0. A state's weight has the slope 2 (Q - target), shared by the three states.
        np.testing.assert_allclose(slope[:3, 0], 2 * (STATE_TERMS[critic] + 1 - targets) / 3, atol=0.03)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("sac", {}, runs.slopes_of_soft_values(COEFFICIENT)),
        ("sac", WITHOUT_V, runs.slopes_of_soft_values(COEFFICIENT)),
        ("brac_p", {"brac_alpha": 0.0, "warm_start": 0.0}, runs.slopes_of_soft_values()),
        ("brac_p", {"brac_alpha": 0.0, "warm_start": 1.0}, np.zeros((3, 2))),
        # The critics' mean has the slope 1 everywhere, d tanh(u) / d mean is 1 - a^2.
        (
            "rlpd",
            {"num_critics": 2, "initial_entropy_coef": 1e-6},
            SLOPES.mean() * mean_of(lambda s, a, _: 1.0 - a**2)[:, None],
        ),
    ],
)
def test_the_policy_climbs_its_objective(name, options, expected):
    """By its mean and, except for RLPD, by its deviation."""
    learner, batch = linear(name, critic_lr=FROZEN, **options), runs.one_hot_states(3, repeats=16384)
    state, _ = update(learner, prepared(learner, batch), batch, jax.random.key(0))
    found = -3 * slopes_of(state.policy)[:, : expected.shape[1]]
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["sac", "td3", "td3_bc", "rebrac"])
def test_v_and_the_policy_learn_from_the_new_q(name):
    """The order of the authors' code: Q, then V, then pi."""
    learner, batch, key = make(name, critic_lr=0.1, actor_period=1), make_batch(), jax.random.key(0)
    state = init(learner, batch)
    after, _ = update(learner, state, batch, key)
    moved = state.replace(critic=after.critic)
    expected, _ = update(replaced(learner, {"critic_lr": FROZEN}), moved, batch, key)
    for part in ("value", "policy") if name == "sac" else ("policy",):  # with the coefficient
        learnt, wanted = (flat(getattr(state, part)) for state in (after, expected))
        np.testing.assert_allclose(learnt, wanted, rtol=1e-5, atol=1e-7)


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
