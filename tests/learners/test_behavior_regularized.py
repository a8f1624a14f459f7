"""BRAC-p and BEAR: the clone, and what holds the policy back, with linear networks."""

import jax
import jax.numpy as jnp
import linear_runs as runs
import numpy as np
import pytest
from learner_runs import FROZEN, act, init, make, update
from linear_runs import MEANS, SLOPES, STATE_TERMS, STDS, gradient, one_hot_states

CLONE_MEANS, CLONE_STDS = np.array([[0.2], [-0.4], [0.5]]), np.array([[0.6], [0.7], [1.1]])
SETTINGS = {"hidden_dims": (), "behavior_lr": FROZEN, "critic_lr": FROZEN}


def prepared(learner, batch, clone=(CLONE_MEANS, CLONE_STDS), actor=(MEANS, STDS)):
    """The first state with these linear networks; the target critics are the critics."""
    state = runs.with_critics(init(learner, batch), (STATE_TERMS, SLOPES))
    behavior = state.policy.behavior.replace(params=runs.linear_actor(*clone))
    policy = state.policy.replace(params=runs.linear_actor(*actor), behavior=behavior)
    return state.replace(policy=policy)


def after_one_update(name, repeats=4096, clone=(CLONE_MEANS, CLONE_STDS), actor=(MEANS, STDS), **changes):
    """The state after it, and the metrics; the rates of Q and of the clone are 0."""
    learner, batch = make(name, **SETTINGS | changes), one_hot_states(3, repeats)
    return update(learner, prepared(learner, batch, clone, actor), batch, jax.random.key(0))


def policy_slopes(state):
    """The slope of pi's step by mean and by log-std, f32[3, 2], for every state alone."""
    return 3 * runs.slopes_of(state.policy) / np.stack([np.ones(3), runs.LOG_STD_SLOPE], axis=-1)


def test_the_clone_climbs_the_datas_likelihood():
    """Before the tanh it is the Gaussians': of an error e in deviations, the slopes are -e / std, 1 - e^2."""
    noise = np.random.default_rng(0).normal(CLONE_MEANS[:, 0], CLONE_STDS[:, 0], (200, 3))
    learner, batch = make("brac_p", hidden_dims=()), one_hot_states(3, repeats=200)
    batch = batch._replace(actions=jnp.asarray(np.tanh(noise).reshape(-1, 1), jnp.float32))
    state, _ = update(learner, prepared(learner, batch, clone=(MEANS, STDS)), batch, jax.random.key(0))
    errors = (noise - MEANS[:, 0]) / STDS[:, 0]
    expected = np.stack(
        [-(errors / STDS[:, 0]).mean(0), (1 - errors**2).mean(0) * runs.LOG_STD_SLOPE], axis=-1
    )
    np.testing.assert_allclose(3 * runs.slopes_of(state.policy.behavior), expected, rtol=1e-3)


def test_brac_pays_the_kl_from_pi_to_the_clone():
    """While Q does not count: d KL(pi || b) / d mean = (m - m_b) / s_b^2, / d log-std = s^2 / s_b^2 - 1.

    A tanh on both sides changes no KL, so these are the Gaussians'. The other KL's slopes are others.
    """
    state, metrics = after_one_update("brac_p", brac_alpha=0.5, divergence_samples=8)
    variance = CLONE_STDS**2
    expected = 0.5 * np.concatenate([(MEANS - CLONE_MEANS) / variance, STDS**2 / variance - 1], axis=-1)
    np.testing.assert_allclose(policy_slopes(state), expected, atol=0.04)
    kl = np.log(CLONE_STDS / STDS) + (STDS**2 + (MEANS - CLONE_MEANS) ** 2) / (2 * variance) - 0.5
    np.testing.assert_allclose(metrics["actor/divergence"], kl.mean(), atol=0.02)


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian"])
def test_bear_pays_for_the_mmd_before_the_squash(kernel):
    """At narrow policies the MMD is the root of 2 - 2 k(u - u_b), whose slope by the mean is -k' / MMD."""
    narrow, sigma = np.full((3, 1), 0.01), 2.0
    state, metrics = after_one_update(
        "bear", kernel=kernel, mmd_sigma=sigma, clone=(CLONE_MEANS, narrow), actor=(MEANS, narrow)
    )
    difference = (MEANS - CLONE_MEANS)[:, 0]
    if kernel == "gaussian":
        similarity = np.exp(-(difference**2) / (2 * sigma))
        falls = similarity * difference / sigma
    else:
        similarity = np.exp(-np.abs(difference) / (2 * sigma))
        falls = similarity * np.sign(difference) / (2 * sigma)
    mmd = np.sqrt(2 - 2 * similarity)
    np.testing.assert_allclose(metrics["actor/divergence"], mmd.mean(), rtol=0.02)
    np.testing.assert_allclose(policy_slopes(state)[:, 0], falls / mmd, rtol=0.05)


@pytest.mark.parametrize(("threshold", "sign"), [(0.9, 1.0), (1.1, -1.0)])
@pytest.mark.parametrize("start", [0.0, 10.0, -5.0])
def test_bears_multiplier_rises_above_the_threshold_and_falls_below(threshold, sign, start):
    """By Adam's first step, the rate, and never out of [-5, 10]."""
    _, metrics = after_one_update("bear", repeats=64)
    share = float(metrics["actor/divergence"])
    learner = make("bear", multiplier_lr=0.01, mmd_threshold=threshold * share, **SETTINGS)
    batch = one_hot_states(3, repeats=64)
    state = prepared(learner, batch)
    dual = state.policy.log_multiplier.replace(params=jnp.float32(start))
    state = state.replace(policy=state.policy.replace(log_multiplier=dual))
    after, metrics = update(learner, state, batch, jax.random.key(0))
    expected = np.clip(start + 0.01 * sign, -5.0, 10.0)
    np.testing.assert_allclose(after.policy.log_multiplier.params, expected, rtol=1e-5)
    slope = gradient(after.policy.log_multiplier)
    np.testing.assert_allclose(slope, -np.exp(start) * share * (1 - threshold), rtol=0.02)
    np.testing.assert_allclose(metrics["actor/multiplier"], np.exp(expected), rtol=1e-5)


def test_bear_is_evaluated_by_the_best_of_its_actions():
    """The first Q rises with the action in every state: the best of 10 is the largest of 10."""
    learner, batch = make("bear", hidden_dims=(), evaluation_actions=10), one_hot_states(3, repeats=20_000)
    state = prepared(learner, batch)
    states = batch.observations[:3]
    keys = jax.random.split(jax.random.key(0), 20_000)
    best = jax.vmap(lambda key: act(learner, state, states, key, deterministic=True))(keys)[..., 0]
    alone = [act(learner, state, states[i : i + 1], keys[0], deterministic=True)[0, 0] for i in range(3)]
    np.testing.assert_allclose(best[0], alone, rtol=1e-6)
    noise = (np.arctanh(np.array(alone)) - MEANS[:, 0]) / STDS[:, 0]
    assert np.abs(np.diff(noise)).min() > 0.01  # other candidates for each state
    actions = np.tanh(np.random.default_rng(0).normal(MEANS[:, 0], STDS[:, 0], (10, 50_000, 3)))
    np.testing.assert_allclose(best.mean(axis=0), actions.max(axis=0).mean(axis=0), atol=0.01)
    sampled = act(learner, state, batch.observations, jax.random.key(0), deterministic=False).reshape(-1, 3)
    np.testing.assert_allclose(sampled.mean(axis=0), actions.mean(axis=(0, 1)), atol=0.02)

    # A normal policy's samples may lie beyond the bounds, its actions not.
    learner = make("bear+state_gaussian", hidden_dims=())
    for deterministic in (True, False):
        actions = act(learner, init(learner, batch), batch.observations, jax.random.key(0), deterministic)
        assert np.abs(actions).max() == 1.0
