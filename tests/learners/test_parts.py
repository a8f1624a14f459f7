"""Gradients, cloning; the actor: its rate's decay, dropout, and how it acts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import DECAYING, METHODS, act, flat, init, make, make_batch, update

from xql_jax.learners.parts import NetworkState, Trained
from xql_jax.learners.registry import make_learner

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("scale", "largest", "expected"),
    [(1.0, 1.0, 0.2), (1.0, 10.0, 1.0), (1e21, np.inf, 1e21)],  # the last one's square overflows
)
def test_a_gradient_is_scaled_down_to_its_largest_norm(scale, largest, expected):
    start = NetworkState.create(None, (jnp.zeros(()), jnp.zeros(())))
    part = Trained(max_grad_norm=largest)
    state, _ = part.minimize(start, lambda x: (scale * (3 * x[0] + 4 * x[1]), {}), 0.1)
    # Adam's first moment is a tenth of the gradient.
    np.testing.assert_allclose(state.optimizer_state.mu, expected * np.array([0.3, 0.4]), rtol=1e-5)


def test_several_updates_of_v_are_steps_towards_the_same_targets():
    batch, one, three = make_batch(), make("xql").value, make("xql", v_updates=3).value
    expected = start = one.init(KEY, batch.observations)
    for _ in range(3):
        expected, _ = one.fit(expected, batch.observations, batch.rewards)
    found, _ = three.fit(start, batch.observations, batch.rewards)
    np.testing.assert_allclose(flat(found), flat(expected), rtol=1e-5)


def test_cloning_weighs_all_actions_alike():
    learner, batch = make("bc"), make_batch()
    _, metrics = update(learner, init(learner, batch), batch, KEY)
    np.testing.assert_allclose(metrics["actor/loss"], -metrics["actor/log_prob"], rtol=1e-6)


@pytest.mark.parametrize(("step", "share"), [(0, 1.0), (25, 0.5 * (1 + np.sqrt(0.5))), (50, 0.5), (150, 0.0)])
def test_rate_falls_along_a_half_cosine(step, share):
    learner, batch = make("xql", actor_lr=0.01), make_batch()
    policy = init(learner, batch).policy
    policy = policy.replace(optimizer_state=policy.optimizer_state._replace(count=jnp.int32(step)))
    np.testing.assert_allclose(learner.scheduled(100).policy.rate(policy), 0.01 * share, atol=1e-9)
    assert learner.policy.rate(policy) == np.float32(0.01)


def test_a_schedule_reaches_the_learners_whose_rates_decay():
    for name in METHODS:
        learner = make_learner(name)
        steps = [float(leaf) for leaf in jax.tree.leaves(learner.scheduled(12345)) if leaf == 12345]
        assert steps == ([12345.0] if name in DECAYING else []), name


def test_dropout_acts_in_training_only():
    batch = make_batch()
    dropping, plain = make("iql", dropout_rate=0.5), make("iql")
    state, keys = init(plain, batch), jax.random.split(KEY)
    state = state.replace(policy=state.policy.replace(network=init(dropping, batch).policy.network))
    drawn = [flat(update(dropping, state, batch, key)[0].policy) for key in keys]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3
    acts = [
        act(learner, init(learner, batch), batch.observations, KEY, False) for learner in (dropping, plain)
    ]
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
