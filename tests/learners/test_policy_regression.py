"""The actor: its rate's decay, dropout, how it acts, and behaviour cloning as maximum likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import DECAYING, METHODS, act, flat, init, make, make_batch, update

from xql_jax.learners.fields import with_hyperparameters
from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch

KEY = jax.random.key(0)


def after_updates(state, count):
    """The state as if so many updates had been done, with nothing to remember of their gradients."""
    adam = state.policy.optimizer_state._replace(count=jnp.int32(count))
    return state.replace(step=jnp.int32(count), policy=state.policy.replace(optimizer_state=adam))


@pytest.mark.parametrize("algorithm", ["bc", "xql"])
@pytest.mark.parametrize(
    ("step", "share"), [(0, 1.0), (25, 0.5 * (1 + np.sqrt(0.5))), (50, 0.5), (100, 0.0), (150, 0.0)]
)
def test_rate_falls_along_a_half_cosine(algorithm, step, share):
    batch = make_batch()
    constant = make(algorithm, actor_lr=0.01)
    start = after_updates(init(constant, batch), step)
    moves = [
        flat(update(learner, start, batch, KEY)[0].policy.params) - flat(start.policy.params)
        for learner in (constant, constant.scheduled(100))
    ]
    # `step` gradients of 0, then g: Adam divides its means, 0.1 g and 0.001 g^2, by the weights of all.
    adam = 0.1 / (1 - 0.9 ** (step + 1)) / np.sqrt(0.001 / (1 - 0.999 ** (step + 1)))
    assert np.abs(moves[0]).max() == pytest.approx(0.01 * adam, rel=1e-3)
    np.testing.assert_allclose(moves[1], share * moves[0], atol=1e-6)
    if share == 0.0:
        np.testing.assert_array_equal(moves[1], 0.0)


def test_a_schedule_reaches_the_learners_whose_rates_decay():
    assert set(DECAYING) >= {"bc", "xql", "iql"}
    for name in METHODS:
        learner = make_learner(name)
        steps = [float(leaf) for leaf in jax.tree.leaves(learner.scheduled(12345)) if leaf == 12345]
        assert steps == ([12345.0] if name in DECAYING else []), name
        never = with_hyperparameters(learner, {"decay_actor_lr": False}) if name in DECAYING else learner
        assert jax.tree.leaves(never.scheduled(12345)) == jax.tree.leaves(learner), name


def test_dropout_acts_in_training_only():
    batch = make_batch()
    dropping, plain = make("iql", dropout_rate=0.5), make("iql")
    states = {learner.policy.head.dropout_rate: init(learner, batch) for learner in (dropping, plain)}
    np.testing.assert_array_equal(flat(states[0.5]), flat(states[0.0]))

    def gradient(learner, key):  # Adam's first moment is a tenth of it
        state = states[learner.policy.head.dropout_rate]
        return flat(update(learner, state, batch, key)[0].policy.optimizer_state.mu)

    one, other = jax.random.split(KEY)
    assert np.abs(gradient(dropping, one) - gradient(dropping, other)).max() > 1e-3
    np.testing.assert_array_equal(gradient(plain, one), gradient(plain, other))
    np.testing.assert_array_equal(
        *(
            act(learner, states[rate], batch.observations, one, False)
            for rate, learner in ((0.5, dropping), (0.0, plain))
        )
    )


def test_acts_by_its_mean_or_by_clipped_samples():
    learner = make("bc", ())
    observations = jnp.ones((4000, 1))
    state = learner.init(KEY, observations, jnp.zeros((4000, 2)))
    params = state.policy.params["params"]
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
    learner = make("bc", (), actor_lr=0.02).scheduled(1500)
    state = init(learner, batch)
    state = jax.jit(
        lambda state: jax.lax.fori_loop(0, 1500, lambda i, s: learner.update(s, batch, KEY)[0], state)
    )(state)
    means = np.array([actions[states == s].mean(0) for s in range(3)])
    np.testing.assert_allclose(act(learner, state, jnp.eye(3), KEY, True), means, atol=2e-3)
    deviation = np.sqrt(((actions - means[states]) ** 2).mean(0))
    np.testing.assert_allclose(jnp.exp(state.policy.params["params"]["log_std"]), deviation, rtol=1e-2)


def test_weights_multiply_each_examples_likelihood():
    # An example of weight 3 is an example that occurs three times (in a batch of mean weight 1.5).
    learner = make("bc")
    batch = make_batch(size=4)
    actor = init(learner, batch).policy
    repeats = np.array([3, 1, 2, 0])
    repeated = type(batch)(*(np.repeat(array, repeats, axis=0) for array in batch))

    @jax.jit
    def gradient_tree(batch, weights):
        return learner.policy.regress(actor, weights, batch, KEY)[0].optimizer_state.mu

    def gradient(batch, weights):
        return flat(gradient_tree(batch, np.asarray(weights, np.float32)))

    weighted, unweighted = gradient(batch, repeats), gradient(repeated, np.ones(6))
    np.testing.assert_allclose(weighted, unweighted * 6 / 4, rtol=1e-4, atol=1e-6)
    assert np.abs(weighted - gradient(batch, np.ones(4))).max() > 1e-3
