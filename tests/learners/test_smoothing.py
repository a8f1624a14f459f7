"""Smoothing of the value loss: what actions it adds, and that nothing else sees them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import flat, init, make_batch, update

from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch

SIZE = 2000
KEY = jax.random.key(0)
OBSERVATIONS = jnp.arange(2.0 * SIZE).reshape(SIZE, 2)
ACTIONS = jnp.tile(jnp.array([0.0, 0.9, -0.5]), (SIZE, 1))


def test_uniform_actions_follow_the_data_with_their_states():
    observations, actions = make_learner("xql", {"uniform_actions": 3}).smoothed(OBSERVATIONS, ACTIONS, KEY)
    np.testing.assert_array_equal(observations, np.tile(OBSERVATIONS, (4, 1)))
    np.testing.assert_array_equal(actions[:SIZE], ACTIONS)  # no noise
    uniform = np.asarray(actions[SIZE:])
    assert uniform.shape == (3 * SIZE, 3)
    # Uniform on [-1, 1]: mean 0, variance 1 / 3, fourth moment 1 / 5, and no two alike.
    np.testing.assert_allclose([np.mean(uniform**p) for p in (1, 2, 4)], [0, 1 / 3, 1 / 5], atol=0.02)
    assert np.abs(uniform).max() <= 1.0
    assert len(np.unique(uniform, axis=0)) == 3 * SIZE


def test_noise_is_gaussian():
    _, actions = make_learner("xql", {"action_noise": 0.1}).smoothed(OBSERVATIONS, ACTIONS, KEY)
    noise = np.asarray(actions - ACTIONS)[:, [0, 2]]  # the others meet the bound at 1
    assert noise.shape == (SIZE, 2)
    np.testing.assert_allclose([noise.mean(), noise.std()], [0.0, 0.1], atol=0.005)
    np.testing.assert_allclose((noise**4).mean(), 3 * 0.1**4, rtol=0.2)


def test_noise_and_actions_are_clipped():
    _, actions = make_learner("xql", {"action_noise": 10.0}).smoothed(OBSERVATIONS, ACTIONS, KEY)
    # With so much noise nearly every draw lies on a bound: +-0.5 of the noise, 1 of the action.
    for column, bounds in enumerate(([-0.5, 0.5], [0.4, 1.0], [-1.0, 0.0])):
        assert (actions[:, column].min(), actions[:, column].max()) == pytest.approx(bounds)
        assert np.mean(np.isclose(actions[:, column], bounds[0])) > 0.4


def test_both_together():
    learner = make_learner("xql", {"action_noise": 0.1, "uniform_actions": 1})
    _, actions = learner.smoothed(OBSERVATIONS, ACTIONS, KEY)
    assert actions.shape == (2 * SIZE, 3)
    assert 0.05 < np.abs(actions[:SIZE, 0]).mean() < 0.11
    assert np.abs(actions[SIZE:, 0]).mean() > 0.4


@pytest.mark.parametrize("smoothing", [{"uniform_actions": 2}, {"action_noise": 0.3}])
def test_only_the_value_sees_them(smoothing):
    batch = make_batch()
    config = {"hidden_dims": (8,), "beta": 1.0}
    plain, smooth = make_learner("xql", config), make_learner("xql", config | smoothing)
    state = init(plain, batch)

    moved = {}
    for name, learner in (("plain", plain), ("smooth", smooth)):
        after, _ = update(learner, state, batch, KEY)
        # Adam's first moment is a tenth of the gradient.
        moved[name] = flat(after.value.optimizer_state.mu)
    assert np.abs(moved["plain"] - moved["smooth"]).max() > 1e-4

    # With the value's rate at 0 the actor and the critic get the same V: they must get the same gradient too.
    actors, critics = [], []
    for learner in (plain, smooth):
        after, _ = update(learner.replace(value_lr=jnp.float32(0.0)), state, batch, KEY)
        actors.append(after.actor)
        critics.append(after.critic)
    jax.tree.map(np.testing.assert_array_equal, *actors)
    jax.tree.map(np.testing.assert_array_equal, *critics)


def test_the_value_fits_the_smoothed_actions():
    # Q(s, a) is the action itself and the data's are all 1: V goes to L^beta over those and one uniform each.
    learner = make_learner("xql", {"hidden_dims": (), "beta": 1.0, "uniform_actions": 1, "value_lr": 0.01})
    size = 64
    batch = Batch(jnp.zeros((size, 1)), jnp.ones((size, 1)), *jnp.ones((2, size)), jnp.zeros((size, 1)))
    state = init(learner, batch)
    q = jax.tree.map(jnp.zeros_like, state.target_critic)
    for params in q:
        params["params"]["Dense_0"]["kernel"] = jnp.array([[0.0], [1.0]])
    values = learner.min_q(q, batch.observations, batch.actions)

    @jax.jit
    def fit(value):
        def step(i, value):
            return learner.update_value(value, q, values, batch, jax.random.fold_in(KEY, i))[0]

        return jax.lax.fori_loop(0, 2000, step, value)

    v = learner.value_network.apply(fit(state.value).params, jnp.zeros((1, 1)))[0]
    # Half weight on exp(1), half on the mean of exp over [-1, 1], which is sinh(1). The largest z is always
    # the data's, so the rescaling does not shift the optimum.
    np.testing.assert_allclose(v, np.log((np.e + np.sinh(1.0)) / 2), atol=0.03)
