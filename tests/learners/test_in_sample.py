"""Algorithm 1 by hand: weights, losses, smoothing, beta of xql_bellman; its order: tests/test_one_file.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import FROZEN, init, make, make_batch, update
from linear_runs import gradient, linear

from xql_jax.learners.qql import W
from xql_jax.learners.xql import smoothed
from xql_jax.types import Batch


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_beta_follows_the_bellman_errors_themselves(loss):
    """Not the loss of Q: Huber's is half the squared error, and a sum over the critics."""
    settings = {"num_critics": 4, "critic_loss": loss, "beta_rate": 0.5, "errors_share": 2.0}
    learner, batch = make("xql_bellman", **settings), make_batch()
    state = init(learner, batch)
    after, metrics = update(learner, state, batch, jax.random.key(0))
    targets = batch.rewards + learner.discount * batch.masks * after.value(batch.next_observations)
    errors = targets - state.critic.all_q(batch.observations, batch.actions)
    scale = 2.0 * np.sqrt(6.0) / np.pi * np.sqrt(np.mean(np.square(errors)))
    np.testing.assert_allclose(after.value.log_beta, 0.5 * np.log(scale), rtol=1e-5)  # it began at beta = 1
    assert float(metrics["value/beta"]) == 1.0


def test_beta_is_never_below_the_least():
    learner, batch = make("xql_bellman", initial_beta=0.5, least_beta=2.0), make_batch()
    assert float(update(learner, init(learner, batch), batch, jax.random.key(0))[1]["value/beta"]) == 2.0


ONE = jnp.ones((1, 1))
BATCH = Batch(ONE, 0.5 * ONE, jnp.zeros(1), jnp.ones(1), ONE)


def huber(error):
    return 20 * abs(error) - 200


@pytest.mark.parametrize(
    ("name", "changes", "q", "v", "weight", "target"),
    [
        ("xql", {}, 1.4, 1.0, np.exp(3 * 0.4), 0.5),
        ("iql", {"critic_loss": "huber"}, 30.0, 1.0, 100.0, 0.5),
        ("sql", {"alpha": 7.0}, 3.0, 1.0, 2.0, 0.5),  # alpha has no part in it
        ("sql", {}, 1.0, 3.0, 0.0, 1.5),
        ("eql", {"alpha": 4.0}, 1.4, 1.0, np.e, 0.5),  # 10 (q - v) / alpha
        ("eql", {"alpha": 0.1}, 2.0, 1.0, 100.0, 0.5),
        # Both advantages, over V and the upper quantile, 2, in units of beta and the least scale. The
        # distance of the quantiles lowers the target.
        ("qql", {"least_scale": 0.25}, 2.5, 1.0, np.exp((1.5 + 0.5) / (0.25 + 1 / W)), 0.5 * 2.0 - 1.0),
    ],
)
def test_weights_and_losses_of_q_by_hand(name, changes, q, v, weight, target):
    """At networks that have these constant values, and a second Q that is 1 larger; the discount is 0.5."""
    rates = {"value_lr": FROZEN, "critic_lr": FROZEN}
    learner = make(name, (), layer_norm=False, discount=0.5, **rates, **changes)
    state = init(learner, BATCH)
    critics = tuple(linear(np.zeros((2, 1)), bias=constant) for constant in (q, q + 1))
    value = state.value.replace(params=linear(np.zeros((1, 1)), bias=v))
    if name == "qql":
        value = value.replace(upper=value.upper.replace(params=linear(np.zeros((1, 1)), bias=2.0)))
    state = state.replace(value=value, critic=state.critic.replace(params=critics, target=critics))
    _, metrics = update(learner, state, BATCH, jax.random.key(0))
    assert float(metrics["actor/weight"]) == pytest.approx(weight, rel=1e-4)
    errors = np.array([q, q + 1]) - target
    # Squared errors are averaged over the critics, Huber losses added up.
    loss = huber(errors).sum() if "critic_loss" in changes else (errors**2).mean()
    assert float(metrics["critic/loss"]) == pytest.approx(loss, rel=1e-5)


MANY = 2000
KEY = jax.random.key(0)
OBSERVATIONS = jnp.arange(2.0 * MANY).reshape(MANY, 2)
ACTIONS = jnp.tile(jnp.array([0.0, 0.9, -0.5]), (MANY, 1))
PAIRS = Batch(OBSERVATIONS, ACTIONS, *jnp.zeros((2, MANY)), OBSERVATIONS)


def test_uniform_actions_follow_the_data_with_their_states():
    observations, actions = smoothed(PAIRS, KEY, uniform_actions=3, action_noise=0.0)
    np.testing.assert_array_equal(observations, np.tile(OBSERVATIONS, (4, 1)))
    np.testing.assert_array_equal(actions[:MANY], ACTIONS)  # no noise
    uniform = np.asarray(actions[MANY:])
    # Uniform on [-1, 1]: mean 0, variance 1 / 3, fourth moment 1 / 5, and no two alike.
    np.testing.assert_allclose([np.mean(uniform**p) for p in (1, 2, 4)], [0, 1 / 3, 1 / 5], atol=0.02)
    assert len(np.unique(uniform, axis=0)) == 3 * MANY


def test_noise_and_actions_are_clipped():
    _, actions = smoothed(PAIRS, KEY, uniform_actions=0, action_noise=10.0)
    # With so much noise nearly every draw lies on a bound: +-0.5 of the noise, 1 of the action.
    for column, bounds in enumerate(([-0.5, 0.5], [0.4, 1.0], [-1.0, 0.0])):
        assert (actions[:, column].min(), actions[:, column].max()) == pytest.approx(bounds)
        assert np.mean(np.isclose(actions[:, column], bounds[0])) > 0.4


def test_the_value_fits_the_smoothed_actions():
    """Q(s, a) is the action: 1 of the data, and as many uniform ones, whose mean of exp is sinh(1)."""
    learner = make("xql", (), beta=1.0, clip=30.0, loss="plain", uniform_actions=1)
    size = 8192
    batch = Batch(jnp.zeros((size, 1)), jnp.ones((size, 1)), *jnp.ones((2, size)), jnp.zeros((size, 1)))
    state = init(learner, batch)
    q = tuple(linear([[0.0], [1.0]]) for _ in state.critic.params)
    value = state.value.replace(params=linear([[0.0]]))  # V is 0
    state = state.replace(value=value, critic=state.critic.replace(params=q, target=q))
    after, _ = update(learner, state, batch, KEY)
    slope = gradient(after.value)["params"]["Dense_0"]["bias"]
    np.testing.assert_allclose(slope, 1 - (np.e + np.sinh(1.0)) / 2, atol=0.01)
