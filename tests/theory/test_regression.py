"""Gumbel regression by stochastic gradients against L^beta in float64, and closed forms."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xql_jax.losses.gumbel import gumbel_log_loss, gumbel_loss, gumbel_rescaled_loss
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.regression import STEEPEST, gumbel_regression, tangent_gumbel_loss


def draw(name, count, seed):
    """Samples of variance about 1; the names' order is that of their means: 0, 1, 2 and 3."""
    generator = np.random.default_rng(seed)
    if name == "uniform":
        return 2.0 + np.sqrt(12.0) * generator.uniform(-0.5, 0.5, size=count)
    if name == "mixture":
        low, high = generator.normal(2.6, 0.4, count), generator.normal(6.6, 0.8, count)
        return np.where(generator.uniform(size=count) < 0.9, low, high)
    return getattr(generator, name)(size=count)


def no_inputs(y):
    return np.zeros((len(y), 1))


BETAS = np.array([0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0])  # standard deviations


@pytest.fixture(autouse=True)
def _every_fit_converges():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.mark.parametrize("name", ["normal", "exponential", "uniform", "mixture"])
def test_reaches_the_log_partition_within_one_percent(name):
    """Lemma 3.2: minibatch gradients lead to beta log E[exp(X / beta)]."""
    y = 5.0 * draw(name, 10_000, 0)
    betas = BETAS * y.std()
    expected = np.array([log_partition(y, beta) for beta in betas])
    fitted = np.concatenate([gumbel_regression(no_inputs(y), y, beta)([[0.0]]) for beta in betas])
    assert (np.abs(fitted - expected) <= 0.01 * y.std()).all()
    # Relative to how far L^beta is from the mean.
    np.testing.assert_allclose(fitted - y.mean(), expected - y.mean(), rtol=0.01)


def test_a_fit_that_ends_early_warns_of_its_error():
    y = draw("normal", 1000, 0)
    warnings.simplefilter("always", RuntimeWarning)
    with pytest.warns(RuntimeWarning, match="its intercept lacks") as record:
        fitted = gumbel_regression(no_inputs(y), y, 0.1, num_updates=100, learning_rate=0.001)
    lacks = (log_partition(y, 0.1) - fitted([[0.0]])[0]) / y.std()
    assert f"lacks {lacks:.3g} deviations" in str(record[0].message)
    assert lacks > 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "biased"), [(gumbel_loss, False), (gumbel_rescaled_loss, True), (gumbel_log_loss, True)]
)
def test_minibatches_bias_the_losses_that_couple_them(loss, biased):
    """Lemma 3.2: the plain risk is estimated without bias; the rescaled (D.3) and log risks are not."""
    y = jnp.asarray(draw("exponential", 10_000, 0).reshape(40, 250), jnp.float32)
    optimum = jnp.float32(log_partition(np.float64(y).ravel(), 0.3))

    def gradient(batch):
        return jax.grad(lambda value: loss(jnp.full(250, value), batch, beta=0.3).mean())(optimum)

    gradients = jax.vmap(gradient)(y)
    relative = abs(gradients.mean()) / abs(gradients).mean()
    assert (relative > 0.1) if biased else (relative < 1e-3)


@pytest.mark.parametrize("beta", [0.01, 1.0, 50.0])
def test_tangent_meets_the_loss_where_exp_z_is_steepest(beta):
    count = 100
    edge = np.log(STEEPEST * count)
    z = np.array([-30.0, -1.0, 0.0, 1.0, edge - 0.01, edge + 1.0, 1e3, 1e6], np.float32)
    targets = jnp.asarray(beta * z)
    loss = tangent_gumbel_loss(jnp.zeros(8), targets, beta, count)
    plain = beta * (np.expm1(np.float64(z[:5])) - z[:5])
    np.testing.assert_allclose(loss[:5], plain, rtol=1e-4, atol=1e-6)
    # Beyond, a straight line from there: value e^edge - edge - 1 and slope e^edge - 1 of Eq. 7.
    line = np.expm1(edge) - edge + np.expm1(edge) * (np.float64(z[5:]) - edge)
    np.testing.assert_allclose(loss[5:], beta * line, rtol=1e-4)
    slopes = jax.grad(lambda v: tangent_gumbel_loss(v, targets, beta, count).sum())(jnp.zeros(8))
    np.testing.assert_allclose(slopes, -np.expm1(np.minimum(np.float64(z), edge)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("beta", "told"), [(0.0, "positive"), (np.nan, "positive"), (1e9, "within")])
def test_a_beta_beyond_float32_is_refused(beta, told):
    with pytest.raises(ValueError, match=f"beta must be {told}"):
        gumbel_regression([[0.0], [1.0]], [0.0, 1.0], beta)


def test_a_linear_model_of_inputs_in_any_units_and_shapes_that_do_not_fit():
    """Y = a column of inputs + noise: L^beta moves with it; the other column is constant."""
    generator = np.random.default_rng(0)
    x, noise = 7.0 + 1e-3 * generator.normal(size=5_000), generator.uniform(size=5_000)
    inputs, y = np.stack([x, np.full(5_000, 0.1)], axis=1), 4_000.0 * x + noise
    fitted = gumbel_regression(inputs, y, 0.5)
    expected = 4_000.0 * x + log_partition(noise, 0.5)
    assert (np.abs(fitted(inputs) - expected) < 0.01 * y.std()).all()
    with pytest.raises(ValueError, match=r"inputs must be \[N, D\] and y \[N\]"):
        gumbel_regression(inputs, y[:, None], 0.5)
