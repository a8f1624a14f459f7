"""Huge gradients, targets, cloning; the actor: its rate's decay, dropout, and how it acts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import DECAYING, METHODS, act, flat, init, make, make_batch, update

from xql_jax.learners.parts import NetworkState, Trained
from xql_jax.learners.registry import make_learner

KEY = jax.random.key(0)


def test_a_gradient_whose_square_overflows_is_not_clipped_by_default():
    start = NetworkState.create(None, jnp.zeros(()))
    state, _ = Trained().minimize(start, lambda x: (1e21 * x, {}), 0.1)
    assert float(state.optimizer_state.mu) == pytest.approx(1e20, rel=1e-5)  # a tenth of it


def test_a_target_begins_as_a_copy_so_that_both_can_be_donated():
    state = NetworkState.create(None, jnp.ones(3)).with_target()
    assert state.params.unsafe_buffer_pointer() != state.target.unsafe_buffer_pointer()


def test_cloning_weighs_all_actions_alike():
    learner, batch = make("bc"), make_batch()
    _, metrics = update(learner, init(learner, batch), batch, KEY)
    np.testing.assert_allclose(metrics["actor/loss"], -metrics["actor/log_prob"], rtol=1e-6)


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
    np.testing.assert_allclose([samples[:, 0].mean(), samples[:, 0].std()], [0.2, 0.1], atol=0.01)
    # P(-0.9 + 0.5 x < -1) = Phi(-0.2) = 0.421 of the second component is clipped to -1.
    np.testing.assert_allclose((samples[:, 1] == -1.0).mean(), 0.421, atol=0.03)
