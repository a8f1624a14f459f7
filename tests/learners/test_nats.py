"""Beta and the policy's temperature, found by their divergence: exact values for normal advantages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.learners.nats import HeldScale
from xql_jax.learners.registry import OFFLINE, make_learner
from xql_jax.learners.xql import GumbelFit
from xql_jax.losses.divergence import batch_divergence, held_weights
from xql_jax.losses.gumbel import clip_above
from xql_jax.settings import values_of
from xql_jax.types import Batch, SarsaBatch

B = 256


def averages(update, state, steps, last):
    """The state after `steps` updates by numbered keys, and the means of the metrics of the last ones."""

    def step(state, number):
        return update(state, jax.random.fold_in(jax.random.key(0), number))

    state, metrics = jax.lax.scan(step, state, jnp.arange(steps))
    return state, {name: float(values[-last:].mean()) for name, values in metrics.items()}


def test_the_divergence_of_a_minibatch():
    # p = (3/4, 1/4)
    by_hand = np.log(2.0) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25)
    log_weights = jnp.array([np.log(3.0), 0.0])
    np.testing.assert_allclose(batch_divergence(log_weights + 50.0), by_hand, atol=1e-6)
    np.testing.assert_allclose(batch_divergence(jnp.zeros(B)), 0.0, atol=1e-5)
    np.testing.assert_allclose(batch_divergence(1e6 * jnp.arange(B)), np.log(B), rtol=1e-6)  # one row is all


@pytest.mark.parametrize("nats", [0.05, 0.5])
@pytest.mark.parametrize("draw", [jax.random.normal, jax.random.exponential, jax.random.gumbel])
@pytest.mark.parametrize("begin", [1e-3, 1e3])
def test_the_divergence_that_is_wanted_is_held_whatever_the_distribution(nats, draw, begin):
    def update(held, key):
        held, divergence = held.follow(draw(key, (B,)) / held.scale(nats, begin), nats, begin)
        return held, {"divergence": divergence, "scale": held.scale(nats, begin)}

    _, metrics = averages(update, HeldScale.create(begin, nats), 6_000, 2_000)
    np.testing.assert_allclose(metrics["divergence"], nats, rtol=0.03)
    if draw is jax.random.normal:  # KL = 1 / (2 scale^2)
        np.testing.assert_allclose(metrics["scale"], np.sqrt(0.5 / nats), rtol=0.05)


@pytest.mark.parametrize(("unit", "v_updates"), [(0.1, 1), (1.0, 1), (1.0, 3), (10.0, 1)])
def test_beta_is_in_the_unit_of_the_rewards(unit, v_updates):
    """Q ~ N(0, unit^2) in one state: beta is unit / sqrt(2 eps), and V = unit^2 / (2 beta)."""
    fit = GumbelFit(
        beta_nats=0.125,
        clip_rule=clip_above,
        value_lr=3e-3 * max(unit, 0.5),
        value_hidden_dims=(),
        v_updates=v_updates,
    )
    observations = jnp.ones((B, 1))
    value = fit.init(jax.random.key(1), observations)

    def update(value, key):
        targets = unit * jax.random.normal(key, (B,))
        value, info = fit.fit(value, observations, targets)
        value, more = fit.follow(value, targets, value(observations))
        return value, {**info, **more}

    _, metrics = averages(update, value, 6_000, 3_000)
    np.testing.assert_allclose(metrics["value/beta"], 2.0 * unit, rtol=0.05)
    np.testing.assert_allclose(metrics["value/v"], 0.25 * unit, rtol=0.1)


def test_without_nats_beta_is_the_given_one_and_nats_begin_there():
    key, observations = jax.random.key(0), jnp.ones((B, 1))
    targets = jax.random.normal(key, (B,))
    fit = GumbelFit(beta=0.7, value_hidden_dims=())
    value = fit.init(key, observations)
    for given in (0.7, 0.3):  # as a ramp changes it
        value, metrics = fit.replace(beta=jnp.float32(given)).follow(value, targets, 0 * targets)
        assert metrics["value/beta"] == np.float32(given)
    _, metrics = GumbelFit(beta_nats=0.25, value_hidden_dims=()).follow(value, targets, 0 * targets)
    np.testing.assert_allclose(metrics["value/beta"], 0.3, rtol=1e-6)


def holds_nats(method):
    return "policy_nats" in values_of(make_learner(method))


def advantages_of(kind):
    draw = np.random.default_rng(0)
    return {
        "normal": draw.normal(size=B),
        "exponential": draw.exponential(size=B),
        "heavy": draw.standard_t(2, size=B),
        "sparse": 1.0 * (np.arange(B) < 8),
    }[kind]


@pytest.mark.parametrize("kind", ["normal", "exponential", "heavy", "sparse"])
@pytest.mark.parametrize("unit", [1e-20, 1.0, 1e6])
def test_weights_hold_the_nats_that_are_asked_for(kind, unit):
    """The divergence is that of p = w / sum w by its definition; the weights do not depend on the unit."""
    advantages = advantages_of(kind)
    for nats in (0.02, 0.3, 1.0):
        weights, temperature = held_weights(jnp.float32(unit * advantages), nats=nats, most=np.inf)
        p = np.float64(weights) / np.float64(weights).sum()
        np.testing.assert_allclose((p * np.log(p * B)).sum(), nats, rtol=0.05)
        exact = np.exp(float(temperature) * unit * advantages)
        np.testing.assert_allclose(weights, exact / exact.mean(), rtol=1e-3)
        same, _ = held_weights(jnp.float32(advantages + 5.0), nats=nats, most=np.inf)
        np.testing.assert_allclose(weights, same, rtol=2e-3)  # a constant that is added changes nothing


def test_the_better_half_alone_is_a_divergence_of_log_two():
    """With two values of advantages the weights can go no further: then all of them is on the better one."""
    better = jnp.arange(B) % 2 == 0
    weights, _ = held_weights(jnp.where(better, 3.0, 1.0), nats=2.0, most=100.0)
    np.testing.assert_allclose(weights, jnp.where(better, 2.0, 0.0), atol=1e-6)
    equal, temperature = held_weights(jnp.full(B, 7.0), nats=0.3, most=100.0)
    assert np.all(equal == 1.0)
    assert temperature == 0.0
    capped, _ = held_weights(jnp.arange(B) * 1.0, nats=1.0, most=1.5)
    assert capped.max() == 1.5


@pytest.mark.parametrize("method", [*filter(holds_nats, OFFLINE), "iql+weighted_flow"])
def test_every_policy_that_clones_by_weights_holds_its_nats(method):
    """Whatever fits V, and whatever the rewards' unit."""
    known = values_of(make_learner(method))
    small = {name: (16,) for name in known if name.endswith("_hidden_dims")}
    draw = np.random.default_rng(0).normal
    for unit in (0.01, 100.0):
        learner = make_learner(method, {**small, "policy_nats": 0.3})
        rows = [jnp.asarray(draw(size=(B, size)), jnp.float32) for size in (3, 2, 1, 1, 3)]
        data = Batch(rows[0], jnp.clip(rows[1], -1, 1), unit * rows[2][:, 0], 0 * rows[3][:, 0], rows[4])
        data = SarsaBatch(*data, next_actions=data.actions) if learner.batch_type is SarsaBatch else data
        state = learner.init(jax.random.key(0), data.observations, data.actions)
        _, metrics = jax.jit(learner.update)(state, data, jax.random.key(1))
        np.testing.assert_allclose(metrics["actor/divergence"], 0.3, rtol=0.03)
    assert known["policy_nats"] == 0.0  # else the weights are the method's own


@pytest.mark.parametrize(("method", "network"), [("xql", "value"), ("xsac", "value"), ("xtd3", "critic")])
def test_every_soft_maximum_holds_its_nats(method, network):
    widths = {f"{of}_hidden_dims": (16,) for of in ("actor", "critic", "value")}
    known = values_of(make_learner(method))
    small = {name: of for name, of in widths.items() if name in known}
    learner = make_learner(method, small | {"beta_nats": 0.2, "beta": 100.0, "clip_rule": clip_above})
    draw = np.random.default_rng(0).normal
    rows = [jnp.asarray(draw(size=(2_000, size)), jnp.float32) for size in (3, 2, 1, 1, 3)]
    data = Batch(rows[0], jnp.clip(rows[1], -1, 1), 10 * rows[2][:, 0], 0 * rows[3][:, 0], rows[4])

    def update(state, key):
        chosen = jax.random.randint(key, (B,), 0, 2_000)
        state, metrics = learner.update(state, jax.tree.map(lambda rows: rows[chosen], data), key)
        return state, {name: metrics[f"{network}/{name}"] for name in ("divergence", "beta")}

    state = learner.init(jax.random.key(0), data.observations, data.actions)
    _, metrics = averages(update, state, 4_000, 1_000)
    np.testing.assert_allclose(metrics["divergence"], 0.2, rtol=0.15)
    assert metrics["beta"] < 50


def test_a_loss_of_ones_own_sees_the_beta_that_was_found():
    class Own(GumbelFit):
        def loss_of(self, values, targets):
            return (values - self.beta) ** 2  # so V goes to beta

    fit, observations = Own(beta=3.0, beta_nats=0.25, value_lr=0.1, value_hidden_dims=()), jnp.ones((B, 1))
    value = fit.init(jax.random.key(0), observations)
    value = value.replace(held=HeldScale.create(0.5, 0.25))
    for _ in range(200):
        value, info = fit.fit(value, observations, jnp.zeros(B))
    np.testing.assert_allclose(info["value/v"], 0.5, atol=0.02)
