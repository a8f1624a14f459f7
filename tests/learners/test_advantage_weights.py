"""The weight of a data action in the policy's regression, by hand, for each method's own advantages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import FROZEN, init, make, update
from linear_runs import linear

from xql_jax.learners.value_fits.qql import W
from xql_jax.types import Batch

ONE = jnp.ones((1, 1))
BATCH = Batch(ONE, 0.5 * ONE, jnp.zeros(1), jnp.ones(1), ONE)
THIRD = 1 / 3


@pytest.mark.parametrize(
    ("name", "changes", "q", "v", "weight"),
    [
        ("xql", {"awr_temperature": 0.5, "beta": 7.0}, 3.0, 1.0, np.e),  # beta has no part in it
        pytest.param("iql", {}, 1.0 + THIRD, 1.0, np.e, marks=pytest.mark.slow),
        pytest.param("mxql", {"awr_temperature": 0.5}, 1.0, 3.0, 1 / np.e, marks=pytest.mark.slow),
        pytest.param("dvl_chi2", {}, 1.0 - THIRD, 1.0, 1 / np.e, marks=pytest.mark.slow),
        pytest.param("dvl_tv", {}, 1.0 + THIRD, 1.0, np.e, marks=pytest.mark.slow),
        ("sql", {"alpha": 7.0}, 3.0, 1.0, 2.0),  # nor has alpha
        ("sql", {}, 1.0, 3.0, 0.0),
        ("sql", {}, 301.0, 1.0, 100.0),
        ("eql", {"alpha": 4.0}, 1.4, 1.0, np.e),  # 10 (q - v) / alpha
        ("eql", {"alpha": 4.0}, 1.0, 1.8, np.exp(-2)),
        ("eql", {"alpha": 0.1}, 2.0, 1.0, 100.0),
    ],
)
def test_weights_by_hand(name, changes, q, v, weight):
    assert weight_of(name, q, {"value": v}, **changes) == pytest.approx(weight, rel=1e-4)


@pytest.mark.parametrize(("q", "upper"), [(2.5, 2.0), (0.0, 2.0), (0.5, 1.0)])
def test_weights_of_both_quantiles_by_hand(q, upper):
    """Both advantages, over the quantiles 1 and `upper`, in units of beta and the least scale."""
    beta = (upper - 1.0) / W
    expected = np.exp((q - 1.0 + q - upper) / (0.25 + beta))
    found = weight_of("qql", q, {"value": 1.0, "upper": upper}, least_scale=0.25)
    assert found == pytest.approx(expected, rel=1e-4)


def weight_of(name, q, values, **changes):
    """The weight at networks that have these constant values."""
    learner = make(name, (), value_lr=FROZEN, critic_lr=FROZEN, layer_norm=False, **changes)
    state = init(learner, BATCH)
    critics = tuple(linear(np.zeros((2, 1)), bias=q) for _ in state.critic.params)
    value = state.value.replace(params=linear(np.zeros((1, 1)), bias=values["value"]))
    if "upper" in values:
        upper = value.upper.replace(params=linear(np.zeros((1, 1)), bias=values["upper"]))
        value = value.replace(upper=upper)
    state = state.replace(value=value, critic=state.critic.replace(params=critics, target=critics))
    _, metrics = update(learner, state, BATCH, jax.random.key(0))
    return float(metrics["actor/weight"])
