"""Data that the tests of the regressors share, and fits of them."""

import functools

import numpy as np

from xql_jax.theory.regression import MeanRegressor


def draw(name, count, seed):
    """Samples of variance about 1; the names' order is that of their means: 0, 1, 2 and 3."""
    generator = np.random.default_rng(seed)
    if name == "normal":
        return generator.normal(size=count)
    if name == "exponential":
        return generator.exponential(size=count)
    if name == "uniform":
        return 2.0 + np.sqrt(12.0) * generator.uniform(-0.5, 0.5, size=count)
    assert name == "mixture"
    low, high = generator.normal(2.6, 0.4, count), generator.normal(6.6, 0.8, count)
    return np.where(generator.uniform(size=count) < 0.9, low, high)


def no_inputs(y):
    return np.zeros((len(y), 1))


def linear_data(count=2000):
    generator = np.random.default_rng(0)
    x = generator.normal([3.0, -20.0, 0.0], [1.0, 5.0, 0.1], (count, 3))
    return x, x @ [2.0, -0.3, 10.0] + 5.0 + generator.exponential(size=count)


@functools.cache
def mean_of_linear_data():
    return MeanRegressor(random_state=0).fit(*linear_data())
