"""One step of Adam, its traced rate and the clip of the gradient's norm."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learner_runs import init, make, make_batch, update

from xql_jax.learners.parts import Trained, TrainState

START = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
SLOPE = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(-4.0)}  # of norm 5


def linear(params):
    """A loss whose gradient is SLOPE everywhere."""
    return sum(jax.tree.leaves(jax.tree.map(lambda x, slope: (x * slope).sum(), params, SLOPE))), {}


def test_equals_optax_adam():
    def loss(params):
        return (params["a"] ** 4).sum() + jnp.exp(params["b"]), {}

    optimizer = optax.adam(0.05)
    expected, moments = START, optimizer.init(START)
    state = TrainState.create(None, START)
    for _ in range(5):
        updates, moments = optimizer.update(jax.grad(lambda p: loss(p)[0])(expected), moments)
        expected = optax.apply_updates(expected, updates)
        state, _ = Trained().minimize(state, loss, jnp.float32(0.05))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), state.params, expected)


@pytest.mark.parametrize(
    ("max_norm", "factor"), [(np.inf, 1.0), (10.0, 1.0), (5.0, 1.0), (2.5, 0.5), (1e-3, 2e-4)]
)
def test_gradient_norm_is_bounded_jointly(max_norm, factor):
    state, _ = Trained(max_norm).minimize(TrainState.create(None, START), linear, 0.1)
    # Adam's first moment is a tenth of the gradient that it was given.
    jax.tree.map(
        lambda moment, slope: np.testing.assert_allclose(moment, 0.1 * factor * slope, rtol=1e-5),
        state.optimizer_state.mu,
        SLOPE,
    )


def test_without_a_bound_a_norm_that_overflows_changes_nothing():
    """The square of an entry above 1.8e19 is infinite in float32."""
    state, _ = Trained().minimize(
        TrainState.create(None, START), lambda params: (1e21 * params["b"], {}), 0.1
    )
    assert float(state.optimizer_state.mu["b"]) == pytest.approx(1e20, rel=1e-5)


def test_zero_gradient_moves_nothing():
    state, _ = Trained(1.0).minimize(
        TrainState.create(None, START), lambda params: (0.0 * params["b"], {}), 0.1
    )
    jax.tree.map(np.testing.assert_array_equal, state.params, START)


def test_a_target_begins_as_a_copy_and_follows():
    state = TrainState.create(None, START, with_target=True)
    for param, target in zip(*map(jax.tree.leaves, (state.params, state.target)), strict=True):
        np.testing.assert_array_equal(param, target)
        assert param.unsafe_buffer_pointer() != target.unsafe_buffer_pointer()  # or it could not be donated
    state = state.replace(params=SLOPE).polyak_update(0.25)
    np.testing.assert_allclose(state.target["a"], [0.75 * 1.0 + 0.25 * 3.0, 0.75 * -2.0], rtol=1e-6)
    np.testing.assert_allclose(state.target["b"], 0.75 * 0.5 - 0.25 * 4.0, rtol=1e-6)
    assert TrainState.create(None, START).target is None


@pytest.mark.parametrize("algorithm", ["xql", "iql", "bc"])
def test_every_network_is_bounded(algorithm):
    batch = make_batch()
    networks = ("policy",) if algorithm == "bc" else ("policy", "value", "critic")
    norms = {}
    for bound in (1e-3, np.inf):
        learner = make(algorithm, max_grad_norm=bound)
        state = init(learner, batch)
        after, _ = update(learner, state, batch, jax.random.key(1))
        for name in networks:
            norms[name, bound] = 10 * float(optax.global_norm(getattr(after, name).optimizer_state.mu))
    for name in networks:
        assert norms[name, np.inf] > 2e-3
        assert norms[name, 1e-3] == pytest.approx(1e-3, rel=1e-4)
