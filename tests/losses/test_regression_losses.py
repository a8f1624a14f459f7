"""Targets, regression losses and weights: by hand, and what minimises them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.losses.regression import (
    expectile_loss,
    exponential_advantage_weight,
    huber_loss,
    mse_loss,
    td_target,
)

VALUES = np.linspace(-3.0, 3.0, 41).astype(np.float32)
TARGETS = np.random.default_rng(0).normal(scale=30.0, size=41).astype(np.float32)
ERROR = np.float64(TARGETS) - np.float64(VALUES)


def slopes(loss):
    """Each example's derivative with respect to its value."""
    return jax.grad(lambda v: loss(v, TARGETS).sum())(jnp.asarray(VALUES))


def expectile_at(expectile):
    return lambda values, targets: expectile_loss(values, targets, expectile=expectile)


def test_mse():
    np.testing.assert_allclose(mse_loss(VALUES, TARGETS), ERROR**2, rtol=1e-5)
    np.testing.assert_allclose(slopes(mse_loss), -2.0 * ERROR, rtol=1e-5)


def test_huber_is_half_the_mse_within_delta_and_linear_beyond():
    inside = np.abs(ERROR) <= 20.0
    assert 5 < inside.sum() < 36
    loss = huber_loss(VALUES, TARGETS)
    np.testing.assert_allclose(loss[inside], mse_loss(VALUES, TARGETS)[inside] / 2, rtol=1e-6)
    np.testing.assert_allclose(loss[~inside], 20.0 * np.abs(ERROR[~inside]) - 200.0, rtol=1e-5)
    np.testing.assert_allclose(slopes(huber_loss), -np.clip(ERROR, -20.0, 20.0), rtol=1e-5)


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.9])
def test_expectile(expectile):
    weight = np.where(ERROR < 0, 1.0 - expectile, expectile)
    loss = expectile_at(expectile)
    np.testing.assert_allclose(loss(VALUES, TARGETS), weight * ERROR**2, rtol=1e-5)
    np.testing.assert_allclose(slopes(loss), -2.0 * weight * ERROR, rtol=1e-5)


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.7, 0.9])
def test_minimiser_is_the_expectile(expectile):
    # With a fair coin's 0 and 1: expectile * (1 - v) = (1 - expectile) * v, so v is the expectile itself.
    derivative = jax.grad(lambda v: expectile_at(expectile)(jnp.full(2, v), jnp.array([0.0, 1.0])).mean())
    assert abs(float(derivative(expectile))) < 1e-6
    assert derivative(expectile - 0.01) < -1e-3
    assert derivative(expectile + 0.01) > 1e-3


def test_target_by_hand():
    target = td_target(
        jnp.array([1.0, 1.0, -2.0]), jnp.array([1.0, 0.0, 1.0]), jnp.array([10.0, 10.0, 4.0]), discount=0.9
    )
    np.testing.assert_allclose(target, [10.0, 1.0, 1.6], rtol=1e-6)


def test_targets_are_constants():
    for loss in (mse_loss, huber_loss, expectile_at(0.7)):
        gradient = jax.grad(lambda t, loss=loss: loss(jnp.asarray(VALUES), t).sum())(jnp.asarray(TARGETS))
        np.testing.assert_array_equal(gradient, 0.0)
    gradients = jax.grad(lambda r, v: td_target(r, jnp.ones(3), v, discount=0.9).sum(), argnums=(0, 1))(
        jnp.ones(3), jnp.ones(3)
    )
    np.testing.assert_array_equal(gradients, 0.0)


@pytest.mark.parametrize("loss", [mse_loss, huber_loss, expectile_at(0.7)], ids=["mse", "huber", "expectile"])
@pytest.mark.parametrize("shapes", [((4,), (4, 1)), ((4, 1), (4, 1)), ((4,), ()), ((4,), (5,))])
def test_shapes_are_checked_while_tracing(loss, shapes):
    with pytest.raises(AssertionError):
        jax.eval_shape(loss, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))


ADVANTAGES = jnp.array([-2.0, -0.1, 0.0, 0.5, 1.0, 3.0])


def test_cap():
    # exp(3 * 1) is 20, exp(3 * 3) is 8103: only the last is capped, at 100 unless told.
    expected = np.exp(3.0 * np.float64(ADVANTAGES))
    weight = exponential_advantage_weight(ADVANTAGES, awr_temperature=3.0)
    np.testing.assert_allclose(weight, [*expected[:-1], 100.0], rtol=1e-6)
    weight = exponential_advantage_weight(ADVANTAGES, awr_temperature=3.0, max_weight=0.5)
    np.testing.assert_allclose(weight, np.minimum(expected, 0.5), rtol=1e-6)


def test_is_a_constant_for_gradients():
    gradient = jax.grad(lambda a: exponential_advantage_weight(a, awr_temperature=3.0).sum())(ADVANTAGES)
    np.testing.assert_array_equal(gradient, 0.0)
