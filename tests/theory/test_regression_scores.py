"""What the regressors tell besides predictions: coefficients, scores, and why they refuse."""

import warnings

import numpy as np
import pytest
from regression_data import draw, linear_data, mean_of_linear_data, no_inputs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import r2_score

from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.regression import ExpectileRegressor, GumbelRegressor, MeanRegressor

NAN = float("nan")


@pytest.fixture(autouse=True)
def _every_fit_converges():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("beta", [2.0, [2.0, 3.0]])
def test_coefficients_are_those_of_the_predictions(beta):
    x, y = linear_data(300)
    model = GumbelRegressor(beta, random_state=0).fit(x, y)
    np.testing.assert_allclose(model.predict(x), x @ model.coef_.T + model.intercept_, rtol=1e-10)
    assert np.shape(model.intercept_) == np.shape(beta)


@pytest.mark.slow
def test_an_mlp_has_no_coefficients():
    x, y = linear_data(50)
    warnings.simplefilter("ignore", ConvergenceWarning)
    model = MeanRegressor(hidden_dims=[4], num_updates=1).fit(x, y)
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "intercept_")
    assert not hasattr(MeanRegressor(), "coef_")


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
    mean = mean_of_linear_data()
    np.testing.assert_allclose(mean.score(x, y), r2_score(y, mean.predict(x)), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [GumbelRegressor([0.1, 1.0]), ExpectileRegressor([0.2, 0.9]), MeanRegressor()]
)
def test_score_of_the_best_constant_is_zero(model):
    y = draw("normal", 1000, 0)
    score = model.set_params(random_state=0).fit(no_inputs(y), y).score(no_inputs(y), y)
    assert -0.01 < score <= 1e-9


@pytest.mark.slow
def test_score_does_not_overflow():
    y = draw("normal", 100, 0)
    model = GumbelRegressor([0.01, 0.02], random_state=0).fit(no_inputs(y), y)
    assert model.score(no_inputs(y), y + 100.0) == -1e300
    assert -1e6 < model.score(no_inputs(y), y - 100.0) < 0  # far below, the loss is linear


@pytest.mark.slow
def test_a_constant_y():
    x = linear_data(100)[0]
    model = GumbelRegressor(0.5, random_state=0).fit(x, np.full(100, 1e6))
    np.testing.assert_allclose(model.predict(x), 1e6, atol=0.01)
    assert model.score(x, np.full(100, 1e6 + 1.0)) == 0.0


@pytest.mark.parametrize("model", [GumbelRegressor(), ExpectileRegressor(), MeanRegressor()])
def test_no_prediction_before_the_fit(model):
    with pytest.raises(NotFittedError):
        model.predict(np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (GumbelRegressor(0.0), "beta .*0.0"),
        (GumbelRegressor(-1.0), "beta .*-1.0"),
        (GumbelRegressor(NAN), "beta .*nan"),
        (GumbelRegressor([1.0, np.inf]), "beta .*inf"),
        (GumbelRegressor([]), r"beta .*\[\]"),
        (GumbelRegressor([[1.0]]), r"beta .*\[\[1.0\]\]"),
        (ExpectileRegressor(1.0), "expectile .*1.0"),
        (ExpectileRegressor([0.5, 0.0]), "expectile .*0.0"),
        (ExpectileRegressor(NAN), "expectile .*nan"),
        (MeanRegressor(hidden_dims=(8, 0)), "hidden_dims .*0"),
        (MeanRegressor(hidden_dims=(2.5,)), "hidden_dims .*2.5"),
        (MeanRegressor(hidden_dims=8), "hidden_dims .*8"),
        (MeanRegressor(learning_rate=0.0), "learning_rate .*0.0"),
        (MeanRegressor(learning_rate=NAN), "learning_rate .*nan"),
        (MeanRegressor(batch_size=0), "batch_size .*0"),
        (MeanRegressor(num_updates=-1), "num_updates .*-1"),
    ],
)
def test_impossible_arguments_are_refused_by_fit(model, message):
    with pytest.raises(ValueError, match=message):
        model.fit(np.zeros((4, 1)), np.arange(4.0))


@pytest.mark.parametrize("value", [NAN, np.inf])
def test_data_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="Input y contains"):
        MeanRegressor().fit(np.zeros((2, 1)), [0.0, value])
    with pytest.raises(ValueError, match="Input X contains"):
        MeanRegressor().fit([[0.0], [value]], np.zeros(2))
    warnings.simplefilter("ignore", ConvergenceWarning)
    model = MeanRegressor(num_updates=1).fit(np.zeros((2, 1)), np.arange(2.0))
    with pytest.raises(ValueError, match="y must be finite"):
        model.score(np.zeros((2, 1)), [0.0, value])
    with pytest.raises(ValueError, match="inconsistent"):
        model.score(np.zeros((2, 1)), np.zeros(3))
