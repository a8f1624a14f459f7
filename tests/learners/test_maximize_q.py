"""Policies that climb a known quadratic Q against what theory says they become."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from xql_jax.learners.parts import Estimates, Gaussian, PolicyObjective
from xql_jax.learners.policy_objectives import (
    MaxQ,
    Mixture,
    ReverseKL,
    StateGaussian,
    TrustRegion,
    expected_q,
)  # fmt: skip
from xql_jax.networks.policies import Draws, draws
from xql_jax.types import Batch

SIZE = 256
CURVATURE, TOP = 8.0, 0.5
CENTRE, DEVIATION = -0.1, 0.25  # of the data's actions


# One state; actions whose mean and deviation are exactly those of the data.
NOISE = np.random.default_rng(0).normal(size=(SIZE, 1))
ACTIONS = np.float32(CENTRE + DEVIATION * (NOISE - NOISE.mean()) / NOISE.std())
STATES = jnp.ones((SIZE, 1))
BATCH = Batch(STATES, jnp.asarray(ACTIONS), *jnp.ones((2, SIZE)), STATES)


def quadratic(observations, actions):
    return -CURVATURE / 2 * (actions[:, 0] - TOP) ** 2


ESTIMATES = Estimates(quadratic(None, BATCH.actions), jnp.zeros(SIZE), 1.0, quadratic)


def train(objective, actor, updates):
    """With a rate that falls to 0."""
    rates = {"actor_lr": np.float32(5e-3), "actor_decay_steps": np.float32(updates)}
    objective = dataclasses.replace(objective, **rates)

    def update(i, actor):
        return objective.update(actor, ESTIMATES, BATCH, jax.random.key(i))[0]

    return jax.jit(lambda actor: jax.lax.fori_loop(0, updates, update, actor))(actor)


def init(objective):
    return objective.init(jax.random.key(0), BATCH.observations[:1], BATCH.actions[:1])


def moments(policy):
    drawn = draws(policy, jax.random.key(9))
    weights = drawn.weights[..., None]
    mean = (weights * drawn.actions).sum(0).mean()
    return float(mean), float(jnp.sqrt((weights * (drawn.actions - mean) ** 2).sum(0).mean()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "temperature"),
    [
        (Gaussian(()), 3.0),
        (StateGaussian(()), 1.0),
        (Mixture((), num_components=2), 1.0),
    ],
)
def test_reverse_kl_reaches_the_data_tilted_by_q(head, temperature):
    """mu * exp(temperature * Q) of a normal mu and a quadratic Q is normal: precisions add."""
    objective = ReverseKL(head=head, awr_temperature=temperature)
    actor = train(objective, init(objective), 6000)
    precision = 1 / DEVIATION**2 + temperature * CURVATURE
    expected = (CENTRE / DEVIATION**2 + temperature * CURVATURE * TOP) / precision
    many = jnp.ones((20_000, 1))
    mean, deviation = moments(actor(many))
    assert mean == pytest.approx(expected, abs=0.02)
    assert deviation == pytest.approx(precision**-0.5, rel=0.05)
    np.testing.assert_allclose(moments(actor.anchor(many)), [CENTRE, DEVIATION], atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_max_q_balances_q_and_likelihood(weight):
    """Against the root of the objective's own derivatives by mean and deviation."""
    objective = MaxQ(head=Gaussian(()), q_weight=weight)
    actor = train(objective, init(objective), 6000)
    force = weight * CURVATURE / float(jnp.abs(ESTIMATES.q).mean())

    def slopes(x):
        mean, deviation = x
        by_mean = force * (mean - TOP) + (mean - CENTRE) / deviation**2
        spread = DEVIATION**2 + (mean - CENTRE) ** 2
        return by_mean, force * deviation + 1 / deviation - spread / deviation**3

    expected = optimize.fsolve(slopes, (CENTRE, DEVIATION))
    found = actor(BATCH.observations[:1])
    assert float(found.mean[0, 0]) == pytest.approx(expected[0], abs=0.02)
    assert float(found.std[0]) == pytest.approx(expected[1], rel=0.03)


@pytest.mark.slow
def test_a_trust_region_clones_first_then_stays_near_its_past():
    objective = TrustRegion(head=Gaussian(()), cloning_updates=3.0, anchor_tau=0.25, awr_temperature=3.0)
    actor, cloned = init(objective), init(PolicyObjective(head=Gaussian(())))
    cloned = cloned.replace(params=actor.params)
    key = jax.random.key(1)
    for _ in range(3):
        actor, info = objective.update(actor, ESTIMATES, BATCH, key)
        cloned, _ = PolicyObjective(head=Gaussian(())).regress(cloned, jnp.ones(SIZE), BATCH, key)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), actor.params, cloned.params)
        jax.tree.map(np.testing.assert_array_equal, actor.anchor.params, actor.params)
        assert float(info["actor/kl"]) == 0.0
    before = actor.anchor.params
    expected, _ = objective.maximize_q(actor, ESTIMATES, BATCH, key)
    actor, info = objective.update(actor, ESTIMATES, BATCH, key)
    check = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(check, actor.params, expected.params)
    jax.tree.map(lambda a, p, old: check(a, 0.25 * p + 0.75 * old), actor.anchor.params, actor.params, before)


@pytest.mark.parametrize("limit", [1.0, 2.0])
def test_expected_q_by_hand(limit):
    """Actions 0.5 and 3 weigh a quarter and three; 3 is beyond the bounds, and counts as the limit."""
    drawn = Draws(jnp.array([[[0.5]], [[3.0]]]), jnp.zeros((2, 1)), jnp.array([[0.25], [0.75]]))
    found = expected_q(drawn, lambda states, actions: 10 * actions[..., 0] + 1, jnp.ones((1, 1)), limit)
    np.testing.assert_allclose(found, [0.25 * 6 + 0.75 * (10 * limit + 1)])


@pytest.mark.parametrize("kind", [ReverseKL, MaxQ])
def test_q_counts_in_units_of_the_advantages_scale(kind):
    objective = kind(head=Gaussian(()))
    tripled = Estimates(3 * ESTIMATES.q, ESTIMATES.v, 3.0, lambda o, a: 3 * quadratic(o, a))
    updated, scaled = (
        objective.update(init(objective), estimates, BATCH, jax.random.key(1))[1]["actor/loss"]
        for estimates in (ESTIMATES, tripled)
    )
    np.testing.assert_allclose(scaled, updated, rtol=1e-5)
