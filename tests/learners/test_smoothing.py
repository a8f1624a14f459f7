"""Smoothing of the value loss: what actions it adds, and that nothing else sees them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import FROZEN, init, make
from online_runs import run_updates

from xql_jax.learners.in_sample import smoothed
from xql_jax.learners.parts import min_q
from xql_jax.types import Batch

SIZE = 2000
KEY = jax.random.key(0)
OBSERVATIONS = jnp.arange(2.0 * SIZE).reshape(SIZE, 2)
ACTIONS = jnp.tile(jnp.array([0.0, 0.9, -0.5]), (SIZE, 1))


def smooth(uniform_actions, action_noise):
    batch = Batch(OBSERVATIONS, ACTIONS, *jnp.zeros((2, SIZE)), OBSERVATIONS)
    return smoothed(batch, KEY, uniform_actions, action_noise)


def test_uniform_actions_follow_the_data_with_their_states():
    observations, actions = smooth(3, 0.0)
    np.testing.assert_array_equal(observations, np.tile(OBSERVATIONS, (4, 1)))
    np.testing.assert_array_equal(actions[:SIZE], ACTIONS)  # no noise
    uniform = np.asarray(actions[SIZE:])
    assert uniform.shape == (3 * SIZE, 3)
    # Uniform on [-1, 1]: mean 0, variance 1 / 3, fourth moment 1 / 5, and no two alike.
    np.testing.assert_allclose([np.mean(uniform**p) for p in (1, 2, 4)], [0, 1 / 3, 1 / 5], atol=0.02)
    assert np.abs(uniform).max() <= 1.0
    assert len(np.unique(uniform, axis=0)) == 3 * SIZE


def test_noise_is_gaussian():
    _, actions = smooth(0, 0.1)
    noise = np.asarray(actions - ACTIONS)[:, [0, 2]]  # the others meet the bound at 1
    assert noise.shape == (SIZE, 2)
    np.testing.assert_allclose([noise.mean(), noise.std()], [0.0, 0.1], atol=0.005)
    np.testing.assert_allclose((noise**4).mean(), 3 * 0.1**4, rtol=0.2)


def test_noise_and_actions_are_clipped():
    _, actions = smooth(0, 10.0)
    # With so much noise nearly every draw lies on a bound: +-0.5 of the noise, 1 of the action.
    for column, bounds in enumerate(([-0.5, 0.5], [0.4, 1.0], [-1.0, 0.0])):
        assert (actions[:, column].min(), actions[:, column].max()) == pytest.approx(bounds)
        assert np.mean(np.isclose(actions[:, column], bounds[0])) > 0.4


def test_the_value_fits_the_smoothed_actions():
    # Q(s, a) is the action itself and the data's are all 1: V goes to L^beta over those and one uniform each.
    rates = {"value_lr": 0.01, "actor_lr": FROZEN, "critic_lr": FROZEN}
    learner = make("xql", (), beta=1.0, uniform_actions=1, **rates)
    size = 64
    batch = Batch(jnp.zeros((size, 1)), jnp.ones((size, 1)), *jnp.ones((2, size)), jnp.zeros((size, 1)))
    state = init(learner, batch)
    q = jax.tree.map(jnp.zeros_like, state.critic.params)
    for params in q:
        params["params"]["Dense_0"]["kernel"] = jnp.array([[0.0], [1.0]])
    # By a rate of 0, Q stays what its target is.
    state = state.replace(critic=state.critic.replace(params=q, target=q))
    np.testing.assert_array_equal(min_q(state.critic, q, batch.observations, batch.actions), 1.0)
    v = run_updates(learner, state, batch, KEY, 2000).value(jnp.zeros((1, 1)))[0]
    # Half weight on exp(1), half on the mean of exp over [-1, 1], which is sinh(1). The largest z is always
    # the data's, so the rescaling does not shift the optimum.
    np.testing.assert_allclose(v, np.log((np.e + np.sinh(1.0)) / 2), atol=0.03)
