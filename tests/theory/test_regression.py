"""Gumbel regression by stochastic gradients against L^beta in float64, closed forms scikit-learn's checks."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from xql_jax.losses.gumbel import gumbel_log_loss, gumbel_loss, gumbel_rescaled_loss
from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.regression import (
    STEEPEST,
    ExpectileRegressor,
    GumbelRegressor,
    MeanRegressor,
    tangent_gumbel_loss,
)


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


def linear_data(count=2000):
    generator = np.random.default_rng(0)
    x = generator.normal([3.0, -20.0, 0.0], [1.0, 5.0, 0.1], (count, 3))
    return x, x @ [2.0, -0.3, 10.0] + 5.0 + generator.exponential(size=count)


BETAS = np.array([0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0])  # standard deviations


@pytest.fixture(autouse=True)
def _every_fit_converges():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        yield


@pytest.mark.parametrize("name", ["normal", "exponential", "uniform", "mixture"])
def test_reaches_the_log_partition_within_one_percent(name):
    """Lemma 3.2: minibatch gradients lead to beta log E[exp(X / beta)], all betas in one fit."""
    y = 5.0 * draw(name, 10_000, 0)
    betas = BETAS * y.std()
    model = GumbelRegressor(betas, random_state=0).fit(no_inputs(y), y)
    expected = np.array([log_partition(y, beta) for beta in betas])
    assert model.n_iter_ * 40 == 10_000  # 40 minibatches an epoch
    fitted = model.predict([[0.0]])[0]
    assert (np.abs(fitted - expected) <= 0.01 * y.std()).all()
    # Relative to how far L^beta is from the mean.
    np.testing.assert_allclose(fitted - y.mean(), expected - y.mean(), rtol=0.01)


def test_a_fit_that_ends_early_warns_of_its_error():
    y = draw("normal", 1000, 0)
    model = GumbelRegressor([1.0, 0.1], num_updates=100, learning_rate=0.001, random_state=0)
    warnings.simplefilter("always", ConvergenceWarning)
    with pytest.warns(ConvergenceWarning, match="model 1 of 2, at 0.1, lacks") as record:
        model.fit(no_inputs(y), y)
    lacks = (log_partition(y, 0.1) - model.predict([[0.0]])[0, 1]) / y.std()
    assert f"lacks {lacks:.3g} standard deviations" in str(record[0].message)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden_dims", "mean", "tolerance"),
    [((), lambda x: 2 * x + 1, 0.03), ((32,), lambda x: np.sin(3 * x), 0.06)],
)
def test_conditional_value_of_normal_noise(hidden_dims, mean, tolerance):
    """Lemma 3.2: given x, L^beta of N(f, s^2) is f + s^2 / (2 beta); it is above the mean by up to 1."""

    def rms(error):
        return np.sqrt((error**2).mean(0))

    generator = np.random.default_rng(0)
    inputs = generator.uniform(-1.0, 1.0, 10_000)
    x, y = inputs[:, None], mean(inputs) + np.sqrt(0.8 + 0.6 * inputs) * generator.normal(size=10_000)
    betas = np.array([0.7, 1.0, 3.0, 100.0])
    model = GumbelRegressor(betas, hidden_dims=hidden_dims, random_state=0).fit(x, y)
    grid = np.linspace(-0.95, 0.95, 50)
    excess = (0.8 + 0.6 * grid)[:, None] / (2 * betas)
    values = model.predict(grid[:, None])
    assert (rms(values - mean(grid)[:, None] - excess) < tolerance).all()
    assert rms(excess)[0] > 0.6
    assert (np.diff(values, axis=1) < 0).mean() > 0.95  # Lemma 3.1, x by x
    least_squares = MeanRegressor(hidden_dims=hidden_dims, random_state=0).fit(x, y).predict(grid[:, None])
    assert rms(least_squares - mean(grid)) < tolerance
    # The limit of a large beta: the same network, descended under another loss.
    assert rms(values[:, 3] - least_squares - excess[:, 3]) < 0.05


@pytest.mark.slow
def test_several_betas_are_as_many_single_fits():
    x, y = linear_data(300)
    settings = {"hidden_dims": (16,), "num_updates": 300, "random_state": 3}
    warnings.simplefilter("ignore", ConvergenceWarning)
    together = GumbelRegressor([0.5, 3.0, 50.0], **settings).fit(x, y)
    assert together.predict(x).shape == (300, 3)
    for k, beta in enumerate([0.5, 3.0, 50.0]):
        alone = GumbelRegressor(beta, **settings).fit(x, y)
        np.testing.assert_allclose(alone.predict(x), together.predict(x)[:, k], atol=1e-3 * y.std())
    assert (np.abs(np.diff(together.predict(x), axis=1)).max(0) > 0.1 * y.std()).all()


def test_expectiles_are_scipys():
    y = 3.0 * draw("exponential", 10_000, 0)
    expectiles = [0.02, 0.3, 0.5, 0.7, 0.9, 0.99]
    model = ExpectileRegressor(expectiles, random_state=0).fit(no_inputs(y), y)
    expected = [stats.expectile(y, expectile) for expectile in expectiles]
    np.testing.assert_allclose(model.predict([[0.0]])[0], expected, atol=0.01 * y.std())


@pytest.mark.slow
def test_score_is_the_loss_that_is_left_of_the_best_constant():
    x, y = linear_data()
    betas = [0.5, 50.0]
    model = GumbelRegressor(betas, random_state=0).fit(x, y)
    scores = []
    for beta, values in zip(betas, model.predict(x).T, strict=True):
        z, z0 = (y - values) / beta, (y - log_partition(y, beta)) / beta
        scores.append(1 - np.mean(np.exp(z) - z - 1) / np.mean(np.exp(z0) - z0 - 1))
    np.testing.assert_allclose(model.score(x, y), np.mean(scores), rtol=1e-9)
    assert min(scores) > 0.5
    assert abs(scores[0] - scores[1]) > 0.01
    mean = MeanRegressor(random_state=0).fit(x, y)
    np.testing.assert_allclose(mean.score(x, y), r2_score(y, mean.predict(x)), rtol=1e-9)
    assert mean.predict(x).shape == y.shape


@pytest.mark.slow
@parametrize_with_checks([GumbelRegressor(num_updates=500)])
def test_scikit_learn_accepts(estimator, check):
    """None of scikit-learn's checks is expected to fail; some fits have no time to converge in them."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    check(estimator)
