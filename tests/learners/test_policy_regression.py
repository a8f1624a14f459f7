"""The actor: its rate's decay, dropout, how it acts, and behaviour cloning as maximum likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import act, flat, init, make_batch, update

from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch

KEY = jax.random.key(0)


@pytest.mark.parametrize("algorithm", ["bc", "xql"])
@pytest.mark.parametrize(
    ("step", "share"), [(0, 1.0), (25, 0.5 * (1 + np.sqrt(0.5))), (50, 0.5), (100, 0.0), (150, 0.0)]
)
def test_rate_falls_along_a_half_cosine(algorithm, step, share):
    batch = make_batch()
    constant = make_learner(algorithm, {"hidden_dims": (8,), "actor_lr": 0.01})
    decaying = constant.replace(actor_decay_steps=jnp.float32(100.0))
    start = init(constant, batch)
    # Both have taken `step` updates; only the count, not Adam's moments, matters to the rate.
    start = start.replace(step=jnp.array(step, jnp.int32))
    moves = [
        flat(update(learner, start, batch, KEY)[0].actor.params) - flat(start.actor.params)
        for learner in (constant, decaying)
    ]
    assert np.abs(moves[0]).max() == pytest.approx(0.01, rel=1e-3)  # Adam's first step
    np.testing.assert_allclose(moves[1], share * moves[0], atol=1e-6)
    if share == 0.0:
        np.testing.assert_array_equal(moves[1], 0.0)


def test_decay_leaves_the_values_alone():
    batch = make_batch()
    learner = make_learner("xql", {"hidden_dims": (8,), "actor_decay_steps": 10.0})
    start = init(learner, batch).replace(step=jnp.array(10, jnp.int32))
    after, _ = update(learner, start, batch, KEY)
    np.testing.assert_array_equal(flat(after.actor.params), flat(start.actor.params))
    assert np.abs(flat(after.value.params) - flat(start.value.params)).max() > 1e-4
    assert np.abs(flat(after.critic.params) - flat(start.critic.params)).max() > 1e-4


def test_dropout_acts_in_training_only():
    batch = make_batch()
    learner = make_learner("iql", {"hidden_dims": (16,), "dropout_rate": 0.5})
    plain = learner.replace(dropout_rate=0.0)
    state = init(learner, batch)

    def gradient(learner, key):  # Adam's first moment is a tenth of it
        return flat(update(learner, state, batch, key)[0].actor.optimizer_state.mu)

    one, other = jax.random.split(KEY)
    assert np.abs(gradient(learner, one) - gradient(learner, other)).max() > 1e-3
    np.testing.assert_array_equal(gradient(plain, one), gradient(plain, other))
    np.testing.assert_array_equal(
        act(learner, state, batch.observations, one, False), act(plain, state, batch.observations, one, False)
    )


def test_acts_by_its_mean_or_by_clipped_samples():
    learner = make_learner("bc", {"hidden_dims": ()})
    observations = jnp.ones((4000, 1))
    state = learner.init(KEY, observations, jnp.zeros((4000, 2)))
    params = state.actor.params["params"]
    params["Dense_0"] = {"kernel": jnp.zeros((1, 2)), "bias": jnp.arctanh(jnp.array([0.2, -0.9]))}
    params["log_std"] = jnp.log(jnp.array([0.1, 0.5]))
    keys = jax.random.split(KEY)
    for key in keys:
        mean = act(learner, state, observations, key, True)
        np.testing.assert_allclose(mean, np.tile([0.2, -0.9], (4000, 1)), atol=1e-6)
    samples, others = (np.asarray(act(learner, state, observations, key, False)) for key in keys)
    assert (samples != others).any(axis=-1).all()
    np.testing.assert_allclose(samples[:, 0].mean(), 0.2, atol=0.01)
    np.testing.assert_allclose(samples[:, 0].std(), 0.1, rtol=0.05)
    # P(-0.9 + 0.5 x < -1) = Phi(-0.2) = 0.421 of the second component is clipped to -1.
    np.testing.assert_allclose((samples[:, 1] == -1.0).mean(), 0.421, atol=0.03)
    assert np.abs(samples).max() <= 1.0


def test_cloning_is_maximum_likelihood():
    # With one-hot observations and no hidden layer: each state's mean action, and a common deviation.
    generator = np.random.default_rng(1)
    states = generator.integers(0, 3, 200)
    centres = np.array([[-0.5, 0.2], [0.0, -0.3], [0.6, 0.5]])
    actions = np.clip(centres[states] + generator.normal(size=(200, 2)) * [0.05, 0.2], -1, 1).astype(
        np.float32
    )
    observations = jnp.eye(3)[states]
    batch = Batch(observations, jnp.array(actions), *jnp.zeros((2, 200)), observations)
    learner = make_learner("bc", {"hidden_dims": (), "actor_lr": 0.02, "actor_decay_steps": 1500.0})
    state = init(learner, batch)
    state = jax.jit(
        lambda state: jax.lax.fori_loop(0, 1500, lambda i, s: learner.update(s, batch, KEY)[0], state)
    )(state)
    means = np.array([actions[states == s].mean(0) for s in range(3)])
    np.testing.assert_allclose(act(learner, state, jnp.eye(3), KEY, True), means, atol=2e-3)
    deviation = np.sqrt(((actions - means[states]) ** 2).mean(0))
    np.testing.assert_allclose(jnp.exp(state.actor.params["params"]["log_std"]), deviation, rtol=1e-2)


def test_weights_multiply_each_examples_likelihood():
    # An example of weight 3 is an example that occurs three times (in a batch of mean weight 1.5).
    learner = make_learner("bc", {"hidden_dims": (8,)})
    batch = make_batch(size=4)
    actor = init(learner, batch).actor
    repeats = np.array([3, 1, 2, 0])
    repeated = type(batch)(*(np.repeat(array, repeats, axis=0) for array in batch))

    @jax.jit
    def gradient_tree(batch, weights):
        return learner.update_actor(actor, batch, weights, jnp.array(0), KEY)[0].optimizer_state.mu

    def gradient(batch, weights):
        return flat(gradient_tree(batch, np.asarray(weights, np.float32)))

    weighted, unweighted = gradient(batch, repeats), gradient(repeated, np.ones(6))
    np.testing.assert_allclose(weighted, unweighted * 6 / 4, rtol=1e-4, atol=1e-6)
    assert np.abs(weighted - gradient(batch, np.ones(4))).max() > 1e-3
