"""No function is called that a dependency has deprecated: a program may turn warnings into errors."""

import warnings

import jax
import jax.numpy as jnp
import pytest

from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch


@pytest.mark.parametrize("method", ["xql", "iql", "td3_bc"])
def test_an_update_calls_nothing_deprecated(method):
    batch = Batch(*(jnp.zeros(shape) for shape in ((4, 3), (4, 2), (4,), (4,), (4, 3))))
    with warnings.catch_warnings(action="error"):
        learner = make_learner(method, {"max_grad_norm": 1.0})
        state = jax.eval_shape(learner.init, jax.random.key(0), batch.observations, batch.actions)
        jax.eval_shape(learner.update, state, batch, jax.random.key(1))
