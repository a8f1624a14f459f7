"""The three regressors in scikit-learn: its own checks, pipelines and searches."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from xql_jax.theory.regression import ExpectileRegressor, GumbelRegressor, MeanRegressor

pytestmark = pytest.mark.slow


def passes(check, estimator):
    """None of scikit-learn's checks is expected to fail; some fits have no time to converge in them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@parametrize_with_checks([GumbelRegressor()])
def test_scikit_learn_accepts(estimator, check):
    passes(check, estimator)


@parametrize_with_checks([ExpectileRegressor(), MeanRegressor()])
def test_scikit_learn_accepts_the_other_losses(estimator, check):
    passes(check, estimator)


@pytest.fixture
def parabola():
    generator = np.random.default_rng(0)
    x = generator.uniform(-1.0, 1.0, 600)
    return x[:, None], 3.0 * x**2 + 0.5 * generator.normal(size=600)


def test_in_a_pipeline(parabola):
    x, y = parabola
    betas = [0.5, 5.0]
    pipeline = make_pipeline(
        PolynomialFeatures(2, include_bias=False), StandardScaler(), GumbelRegressor(betas)
    )
    pipeline.set_params(gumbelregressor__random_state=0).fit(x, y)
    # Normal noise: L^beta is above the mean by variance / (2 beta).
    expected = 3.0 * np.linspace(-0.9, 0.9, 19) ** 2 + 0.25 / (2 * np.array(betas))[:, None]
    np.testing.assert_allclose(pipeline.predict(np.linspace(-0.9, 0.9, 19)[:, None]).T, expected, atol=0.15)
    assert pipeline.score(x, y) > 0.5


def test_a_search_prefers_the_network_that_can_bend(parabola):
    x, y = parabola
    search = GridSearchCV(
        GumbelRegressor([0.5, 5.0], num_updates=2000, random_state=0), {"hidden_dims": [(), (16,)]}, cv=3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(x, y)
    assert search.best_params_ == {"hidden_dims": (16,)}
    linear, bent = search.cv_results_["mean_test_score"]
    assert linear < 0.1
    assert bent > 0.5


def test_a_search_prefers_the_learning_rate_that_arrives(parabola):
    x, y = parabola
    search = GridSearchCV(
        MeanRegressor(num_updates=300, random_state=0), {"learning_rate": [1e-5, 0.02]}, cv=3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search.fit(x**2, y)
    assert search.best_params_ == {"learning_rate": 0.02}
