"""TD3, X-TD3, TD3+BC and ReBRAC: targets, slopes and noise by hand, with linear networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import act, init, make, make_batch
from linear_runs import gumbel_slope, one_update, transition

from xql_jax.settings import with_values


def test_noise_of_the_target_action():
    learner = make("td3")
    observations, key = jnp.zeros((20_000, 3)), jax.random.key(0)
    policy = init(learner, make_batch()).policy  # biases are 0: in the zero state the action is 0
    noise = np.asarray(learner.target_actions(policy, observations, key))
    inside = noise[np.abs(noise) < 0.499]
    np.testing.assert_allclose([inside.mean(), inside.std()], [0.0, 0.19], atol=0.01)  # 0.2 cut at 2.5 of it
    np.testing.assert_allclose(np.abs(noise).max(), 0.5, rtol=1e-6)
    np.testing.assert_allclose(np.mean(np.abs(noise) > 0.499), 0.0124, atol=0.002)  # P(|normal| > 2.5)

    wide = with_values(learner, {"target_noise": 100.0, "target_noise_clip": 5.0})
    assert np.abs(wide.target_actions(policy, observations, key)).max() == 1.0


def test_actions():
    learner, key = make("td3"), jax.random.key(0)
    state = init(learner, make_batch())
    observations = jnp.tile(jnp.array([[0.5, -1.0, 2.0]]), (20_000, 1))
    means = np.asarray(act(learner, state, observations, key, deterministic=True))
    np.testing.assert_array_equal(means, state.policy(observations))
    noise = np.asarray(act(learner, state, observations, key, deterministic=False)) - means
    np.testing.assert_allclose([noise.mean(), noise.std()], [0.0, 0.1], atol=0.003)
    loud = with_values(learner, {"exploration_noise": 10.0})
    assert np.abs(act(loud, state, observations, key, deterministic=False)).max() == 1.0


# Two states and actions of two components. Q_1 = s . (1, -4) + a . (2, 0) is 1 and -2.8 at the policy's.
EYE = np.eye(2)
POLICY = np.array([[0.0, 0.5], [0.6, -0.2]])
ACTIONS = np.array([[0.5, 0.5], [-1.0, 0.2]])
CRITICS = np.array([[1.0, -4.0], [50.0, 50.0]]), np.array([[2.0, 0.0], [0.0, -7.0]])
BATCH = transition(EYE, ACTIONS, np.zeros(2), EYE, ACTIONS, np.ones(2))


@pytest.mark.parametrize(
    ("name", "q_weight", "cloning"),
    [
        ("td3", 1.0, 0.0),
        ("xtd3", 1.0, 0.0),
        # lambda is 2.5 / ((1 + 2.8) / 2); the errors are -0.5, 0, 1.6, -0.4, of squares 2.97 in all.
        ("td3_bc", 2.5 / 1.9, 1.0),
    ],
)
def test_the_actor_climbs_the_first_q(name, q_weight, cloning):
    slopes, _, metrics = one_update(name, BATCH, POLICY, CRITICS)
    loss = -q_weight * (1.0 - 2.8) / 2 + cloning * 2.97 / 4
    np.testing.assert_allclose(metrics["actor/loss"], loss, rtol=1e-5)
    by_action = -q_weight * np.array([2.0, 0.0]) / 2 + cloning * 2.0 * (POLICY - ACTIONS) / 4
    np.testing.assert_allclose(slopes, by_action * (1.0 - POLICY**2), rtol=1e-5)


# One state, in which the policy does (0.5, 0), and two critics: Q_1 = 2 a_1 + 1, Q_2 = a_2 + 3.
ONE_POLICY = np.array([[0.5, 0.0]])
TWO_CRITICS = np.array([[1.0], [3.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])
# Their targets, at the policy's action: 2.5 and 2.
TARGETS = np.array([[2.0], [3.0]]), np.array([[1.0, 0.0], [-2.0, 0.0]])
# The data's next action is (-0.5, 0.5) away: at a coefficient of 0.3, 0.3 * (1 + 0.25) is taken off.
NEXT_ACTION = [[-0.5, 0.5]]
COEFFICIENTS = {"actor_bc_coef": 0.2, "critic_bc_coef": 0.3, "discount": 0.5}
GUMBEL = {"discount": 0.5, "beta": 0.7, "clip": 3.0}


def squared_slope(difference):
    return -2 * difference


@pytest.mark.parametrize(
    ("name", "changes", "mask", "target", "slope"),
    [
        ("td3", {"discount": 0.5}, 1.0, 1.0 + 0.5 * 2.0, squared_slope),
        ("td3_bc", {"discount": 0.5}, 1.0, 1.0 + 0.5 * 2.0, squared_slope),
        ("td3_dq", {"discount": 0.5}, 1.0, 1.0 + 0.5 * 2.5, squared_slope),  # the first critic alone
        # Eq. 41 and 42, with Table 6's beta as the scale of Eq. 42.
        ("xtd3", GUMBEL, 1.0, 1.0 + 0.5 * 2.0, gumbel_slope(0.7, 3.0)),
        ("xtd3_dq", GUMBEL, 0.0, 1.0, gumbel_slope(0.7, 3.0)),
        ("rebrac", COEFFICIENTS, 1.0, 1.0 + 0.5 * (2.0 - 0.375), squared_slope),
        ("rebrac", COEFFICIENTS, 0.0, 1.0, squared_slope),  # nothing is penalised after a terminal state
    ],
)
def test_the_target_by_hand(name, changes, mask, target, slope):
    """Q_1 of the data's action is 1.5 and Q_2 is 2.5."""
    number = 1 if name.endswith("_dq") else 2
    critics, targets = ([part[:number] for part in both] for both in (TWO_CRITICS, TARGETS))
    batch = transition([[1.0]], [[0.25, -0.5]], [1.0], [[1.0]], NEXT_ACTION, [mask])
    _, slopes, _ = one_update(name, batch, ONE_POLICY, critics, targets, **changes)
    inputs = np.array([[1.0], [0.25], [-0.5]])
    expected = [slope(np.array([target - q])) * inputs for q in (1.5, 2.5)[:number]]
    np.testing.assert_allclose(slopes, expected, rtol=1e-4)


@pytest.mark.parametrize("first", [0, 1])
def test_rebracs_actor_loss_by_hand(first):
    """The least Q, whichever critic's, is 2 at the policy's action, and its own unit; errors 0.25, 0.5."""
    order = [first, 1 - first]
    batch = transition([[1.0]], [[0.25, -0.5]], [1.0], [[1.0]], NEXT_ACTION, [1.0])
    critics = tuple(part[order] for part in TWO_CRITICS)
    slopes, _, metrics = one_update("rebrac", batch, ONE_POLICY, critics, **COEFFICIENTS)
    np.testing.assert_allclose(metrics["actor/loss"], 0.2 * (0.0625 + 0.25) - 1.0, rtol=1e-5)
    by_action = 0.2 * 2.0 * np.array([0.25, 0.5]) - np.array([2.0, 0.0]) / 2.0
    np.testing.assert_allclose(slopes, [by_action * (1.0 - ONE_POLICY[0] ** 2)], rtol=1e-5)
