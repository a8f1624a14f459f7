"""One step of Adam, targets, the actor: its rate's decay, dropout, how it acts, and cloning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import DECAYING, METHODS, act, flat, init, make, make_batch, update
from linear_runs import run_updates

from xql_jax.learners.parts import NetworkState, Trained
from xql_jax.learners.registry import make_learner
from xql_jax.types import Batch

START = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
SLOPE = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(-4.0)}  # of norm 5


def linear(params):
    """A loss whose gradient is SLOPE everywhere."""
    return sum(jax.tree.leaves(jax.tree.map(lambda x, slope: (x * slope).sum(), params, SLOPE))), {}


@pytest.mark.parametrize(("max_norm", "factor"), [(np.inf, 1.0), (5.0, 1.0), (2.5, 0.5)])
def test_gradient_norm_is_bounded_jointly(max_norm, factor):
    start = NetworkState.create(None, START)
    state, _ = Trained(max_norm).minimize(start, linear, 0.1)
    # Adam's first moment is a tenth of the gradient that it was given.
    np.testing.assert_allclose(flat(state.optimizer_state.mu), 0.1 * factor * flat(SLOPE), rtol=1e-5)
    if max_norm == np.inf:  # the square of an entry above 1.8e19 is infinite in float32
        state, _ = Trained().minimize(start, lambda params: (1e21 * params["b"], {}), 0.1)
        assert float(state.optimizer_state.mu["b"]) == pytest.approx(1e20, rel=1e-5)


def test_a_target_begins_as_a_copy_and_follows():
    state = NetworkState.create(None, START).with_target()
    for param, target in zip(*map(jax.tree.leaves, (state.params, state.target)), strict=True):
        np.testing.assert_array_equal(param, target)
        assert param.unsafe_buffer_pointer() != target.unsafe_buffer_pointer()  # or it could not be donated
    state = state.replace(params=SLOPE).polyak_update(0.25)
    np.testing.assert_allclose(state.target["a"], [0.75 * 1.0 + 0.25 * 3.0, 0.75 * -2.0], rtol=1e-6)
    np.testing.assert_allclose(state.target["b"], 0.75 * 0.5 - 0.25 * 4.0, rtol=1e-6)


KEY = jax.random.key(0)


@pytest.mark.parametrize("algorithm", ["bc", "xql"])
@pytest.mark.parametrize(("step", "share"), [(25, 0.5 * (1 + np.sqrt(0.5))), (50, 0.5), (150, 0.0)])
def test_rate_falls_along_a_half_cosine(algorithm, step, share):
    batch = make_batch()
    constant = make(algorithm, actor_lr=0.01)
    start = init(constant, batch)
    adam = start.policy.optimizer_state._replace(count=jnp.int32(step))
    start = start.replace(policy=start.policy.replace(optimizer_state=adam))
    moves = [
        flat(update(learner, start, batch, KEY)[0].policy.params) - flat(start.policy.params)
        for learner in (constant, constant.scheduled(100))
    ]
    # `step` gradients of 0, then g: Adam divides its means, 0.1 g and 0.001 g^2, by the weights of all.
    adam = 0.1 / (1 - 0.9 ** (step + 1)) / np.sqrt(0.001 / (1 - 0.999 ** (step + 1)))
    assert np.abs(moves[0]).max() == pytest.approx(0.01 * adam, rel=1e-3)
    np.testing.assert_allclose(moves[1], share * moves[0], atol=1e-6)


def test_a_schedule_reaches_the_learners_whose_rates_decay():
    assert set(DECAYING) >= {"bc", "xql", "iql"}
    for name in METHODS:
        learner = make_learner(name)
        steps = [float(leaf) for leaf in jax.tree.leaves(learner.scheduled(12345)) if leaf == 12345]
        assert steps == ([12345.0] if name in DECAYING else []), name


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
    acts = [act(learner, states[0.0], batch.observations, one, False) for learner in (dropping, plain)]
    np.testing.assert_array_equal(*acts)


def test_acts_by_its_mean_or_by_clipped_samples():
    learner = make("bc", ())
    observations = jnp.ones((4000, 1))
    state = learner.init(KEY, observations, jnp.zeros((4000, 2)))
    params = state.policy.params["params"]
    params["Dense_0"] = {"kernel": jnp.zeros((1, 2)), "bias": jnp.arctanh(jnp.array([0.2, -0.9]))}
    params["log_std"] = jnp.log(jnp.array([0.1, 0.5]))
    mean = act(learner, state, observations, KEY, True)
    np.testing.assert_allclose(mean, np.tile([0.2, -0.9], (4000, 1)), atol=1e-6)
    samples = np.asarray(act(learner, state, observations, KEY, False))
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
    state = run_updates(learner, state, batch, KEY, 1500)
    means = np.array([actions[states == s].mean(0) for s in range(3)])
    np.testing.assert_allclose(act(learner, state, jnp.eye(3), KEY, True), means, atol=2e-3)
    deviation = np.sqrt(((actions - means[states]) ** 2).mean(0))
    np.testing.assert_allclose(jnp.exp(state.policy.params["params"]["log_std"]), deviation, rtol=1e-2)
