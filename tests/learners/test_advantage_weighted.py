"""AWAC and Onestep RL: weights by hand, targets, and what they learn against exact values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import FROZEN, init, make, make_batch, update
from linear_runs import linear, slopes_of, transition, with_critics
from tabular_runs import COUNTS, close, exact_q, learnt_policy, learnt_q, one_hot_batch, stochastic, train

LEAST_STD = np.exp(-5.0)
TEMPERATURE = 0.5
BEHAVIOR = COUNTS / COUNTS.sum(axis=-1, keepdims=True)


def nearly_deterministic(actor, means):
    """The actor with these means [S, A] in one-hot states, and the least standard deviation there is."""
    params = linear(np.arctanh(means))
    params["params"]["log_std"] = jnp.full(np.shape(means)[-1], -5.0)
    return actor.replace(params=params)


@pytest.mark.parametrize(
    ("mean", "changes", "weights"),
    [
        (0.25, {}, (np.sqrt(2.0), 2.0**-1.5)),  # V is the policy's, not the data's: 0.5 and -1.5
        (0.0, {"max_weight": 1.2}, (1.2, 0.5)),  # advantages of 1 and -1
    ],
)
def test_weights_of_two_actions_by_hand(mean, changes, weights):
    """Q = 3 + 2 a, of which another critic lies above; actions of 0.5 and -0.5; 1 / lambda = log 2."""
    batch = transition(
        np.ones((2, 1)), [[0.5], [-0.5]], np.zeros(2), np.ones((2, 1)), np.zeros((2, 1)), [1, 1]
    )
    learner = make("awac", (), **{"awr_temperature": np.log(2.0), "critic_lr": FROZEN, **changes})
    state = with_critics(init(learner, batch), (np.array([[3.0], [9.0]]), np.array([[2.0], [-1.0]])))
    state = state.replace(policy=nearly_deterministic(state.policy, np.array([[mean]])))
    after, metrics = update(learner, state, batch, jax.random.key(0))
    # V is at an action drawn, of deviation 0.007.
    np.testing.assert_allclose(metrics["actor/advantage"], -2.0 * mean, atol=0.03)
    np.testing.assert_allclose(metrics["actor/weight"], np.mean(weights), rtol=0.03)
    by_mean = -np.mean(np.array(weights) * (np.array([0.5, -0.5]) - mean)) / LEAST_STD**2
    np.testing.assert_allclose(slopes_of(after.policy), [[by_mean * (1 - mean**2)]], rtol=0.04)


@pytest.mark.parametrize(("name", "next_q"), [("awac", 4 + 10 * 0.2), ("onestep", 4 + 10 * -0.3)])
def test_the_target_is_at_the_target_network_and_the_advantage_at_the_new_one(name, next_q):
    """AWAC's a' is the policy's, 0.2, Onestep's the data's, -0.3. Q learns, and then weighs the policy."""
    batch = transition([[1.0]], [[0.5]], [1.0], [[1.0]], [[-0.3]], [1.0])
    learner = make(name, (), num_critics=1, discount=0.5, critic_lr=0.1)
    # Q is a, and 0.5 for the data's action; the target network has 4 + 10 a.
    critic, target = (np.array([[0.0]]), np.array([[1.0]])), (np.array([[4.0]]), np.array([[10.0]]))
    state = with_critics(init(learner, batch), critic, target)
    if name == "awac":
        state = state.replace(policy=nearly_deterministic(state.policy, np.array([[0.2]])))
    _, metrics = update(learner, state, batch, jax.random.key(0))
    np.testing.assert_allclose(metrics["critic/loss"], (0.5 - (1.0 + 0.5 * next_q)) ** 2, rtol=0.06)
    if name == "awac":  # Adam's first step is the rate: the new slope is 1.1; an action deviates by 0.007
        np.testing.assert_allclose(metrics["actor/advantage"], 1.1 * (0.5 - 0.2), atol=0.03)


@pytest.mark.slow
def test_onestep_learns_the_behaviours_q_its_clone_and_one_step_of_improvement():
    """mu exp(T (Q - V)), normalised: the policy that is nearest in KL, with Q the behaviour's; within 1%."""
    data = stochastic()
    batch = one_hot_batch(*data)
    config = {"awr_temperature": TEMPERATURE, "max_weight": float("inf"), "value_actions": 30}
    learner, state = train("onestep", batch, **config)
    v, q = exact_q(data, BEHAVIOR)
    weights = BEHAVIOR * np.exp(TEMPERATURE * (q - v[:, None]))
    improved = weights / weights.sum(axis=-1, keepdims=True)
    of_data = q[data[0], data[1]]
    close(learnt_q(state, batch), of_data)
    assert np.abs(exact_q(data, improved)[1][data[0], data[1]] - of_data).max() > 0.1 * np.ptp(of_data)
    cloned = learnt_policy(learner, state.replace(policy=state.behavior))
    np.testing.assert_allclose(cloned, BEHAVIOR, atol=0.01)
    np.testing.assert_allclose(learnt_policy(learner, state), improved, atol=0.02)
    assert np.abs(improved - BEHAVIOR).max() > 0.1


def test_the_advantage_is_over_the_clone():
    """Not over the policy: the policy may be any, and the advantages stay."""
    learner, batch = make("onestep"), make_batch()
    state = init(learner, batch)
    elsewhere = state.replace(policy=jax.tree.map(lambda leaf: leaf + 0.3, state.policy))
    others = state.replace(behavior=jax.tree.map(lambda leaf: leaf + 0.3, state.behavior))
    starts = (state, elsewhere, others)
    means = [update(learner, start, batch, jax.random.key(0))[1]["actor/advantage"] for start in starts]
    assert means[0] == means[1]
    assert abs(means[0] - means[2]) > 1e-3
