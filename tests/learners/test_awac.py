"""AWAC: its weights by hand, cloning as its limit, and its Q against the policy's exact one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import FROZEN, init, make, update
from linear_runs import linear, transition
from online_runs import gradient, linear_critics, train_alone
from tabular_runs import ACTIONS, COUNTS, DISCOUNT, SHAPE, STATES, learnt_q, one_hot_batch, stochastic

from xql_jax.theory.soft_mdp import SoftMDP

LEAST_STD = np.exp(-5.0)


def nearly_deterministic(actor, means):
    """The actor with these means [S, A] in one-hot states, and the least standard deviation there is."""
    params = linear(np.arctanh(means))
    params["params"]["log_std"] = jnp.full(np.shape(means)[-1], -5.0)
    return actor.replace(params=params)


@pytest.mark.parametrize(
    ("mean", "changes", "weights"),
    [
        (0.0, {}, (2.0, 0.5)),  # advantages of 1 and -1
        (0.25, {}, (np.sqrt(2.0), 2.0**-1.5)),  # V is the policy's, not the data's: 0.5 and -1.5
        (0.0, {"max_weight": 1.2}, (1.2, 0.5)),
        (0.0, {"awr_temperature": 2 * np.log(2.0)}, (4.0, 0.25)),
    ],
)
def test_weights_of_two_actions_by_hand(mean, changes, weights):
    """Q = 3 + 2 a, of which another critic lies above; actions of 0.5 and -0.5; 1 / lambda = log 2."""
    batch = transition(
        np.ones((2, 1)), [[0.5], [-0.5]], np.zeros(2), np.ones((2, 1)), np.zeros((2, 1)), [1, 1]
    )
    learner = make("awac", (), **{"awr_temperature": np.log(2.0), "critic_lr": FROZEN, **changes})
    state = init(learner, batch)
    critics = linear_critics(np.array([[3.0], [9.0]]), np.array([[2.0], [-1.0]]))
    state = state.replace(
        policy=nearly_deterministic(state.policy, np.array([[mean]])),
        critic=state.critic.replace(params=critics, target=critics),
    )
    after, metrics = update(learner, state, batch, jax.random.key(0))
    # V is at an action drawn, of deviation 0.007.
    np.testing.assert_allclose(metrics["actor/advantage"], -2.0 * mean, atol=0.03)
    np.testing.assert_allclose(metrics["actor/weight"], np.mean(weights), rtol=0.03)
    by_mean = -np.mean(np.array(weights) * (np.array([0.5, -0.5]) - mean)) / LEAST_STD**2
    slope = gradient(after.policy)["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(slope, [[by_mean * (1 - mean**2)]], rtol=0.04)


@pytest.mark.slow
def test_q_is_that_of_the_policy():
    """A tabular policy that stands still: Q goes to its exact Q, not to the behaviour's; within 1%."""
    data = stochastic()
    batch = one_hot_batch(*data, **SHAPE)
    policy = np.random.default_rng(1).dirichlet(np.ones(ACTIONS), STATES) * (COUNTS > 0)  # within the data
    policy /= policy.sum(axis=-1, keepdims=True)
    means = np.einsum("st,sa->sta", np.eye(STATES), policy).reshape(STATES, -1)  # of one-hot pairs
    learner = make("awac", (), discount=DISCOUNT, tau=0.1, num_critics=1)
    state = init(learner, batch)
    state = state.replace(policy=nearly_deterministic(state.policy, np.minimum(means, 0.9999)))
    state = train_alone(learner, state, batch, "critic_lr", ((3e-2, 2000), (3e-3, 1500), (3e-4, 500)))
    mdp = SoftMDP.from_transitions(*data[:4], **SHAPE, discount=DISCOUNT, beta=1.0)
    exact, of_behavior = (
        mdp.backup(mdp.expected_returns(pi))[data[0], data[1]] for pi in (policy, mdp.behavior)
    )
    np.testing.assert_allclose(learnt_q(state, batch), exact, atol=0.01 * np.ptp(exact))
    assert np.abs(exact - of_behavior).max() > 0.1 * np.ptp(exact)


def test_the_target_is_at_the_target_networks_and_the_advantage_at_the_new_ones():
    """Q learns from its target; once it has, its own new values weigh the policy."""
    batch = transition([[1.0]], [[0.5]], [1.0], [[1.0]], [[0.0]], [1.0])
    learner = make("awac", (), num_critics=1, discount=0.5, critic_lr=0.1)
    state = init(learner, batch)
    state = state.replace(
        policy=nearly_deterministic(state.policy, np.array([[0.2]])),
        critic=state.critic.replace(
            params=linear_critics(np.array([[0.0]]), np.array([[1.0]])),
            target=linear_critics(np.array([[4.0]]), np.array([[10.0]])),
        ),
    )
    after, metrics = update(learner, state, batch, jax.random.key(0))
    # Q is 0.5; V of s' is 4 + 10 * 0.2 with an action that deviates by 0.007. Adam's first step is the rate.
    np.testing.assert_allclose(metrics["critic/loss"], (0.5 - 4.0) ** 2, rtol=0.06)
    np.testing.assert_allclose(
        after.critic.params[0]["params"]["Dense_0"]["kernel"], [[0.1], [1.1]], rtol=1e-4
    )
    np.testing.assert_allclose(metrics["actor/advantage"], 1.1 * (0.5 - 0.2), atol=0.03)
