"""AWAC and Onestep RL: targets and advantages by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import init, make, update
from linear_runs import linear, transition, with_critics


def nearly_deterministic(actor, means):
    """The actor with these means [S, A] in one-hot states, and the least standard deviation there is."""
    params = linear(np.arctanh(means))
    params["params"]["log_std"] = jnp.full(np.shape(means)[-1], -5.0)
    return actor.replace(params=params)


@pytest.mark.parametrize(("name", "next_q"), [("awac", 4 + 10 * 0.2), ("onestep+gaussian", 4 + 10 * -0.3)])
def test_the_target_is_at_the_target_network_and_the_advantage_at_the_new_one(name, next_q):
    """AWAC's a' and V are of its policy, 0.2; Onestep's a' is the data's, -0.3, its V of the clone, 0.2."""
    batch = transition([[1.0]], [[0.5]], [1.0], [[1.0]], [[-0.3]], [1.0])
    learner = make(name, (), num_critics=2, discount=0.5, critic_lr=0.1)
    # The least Q is a, and 0.5 for the data's action; the target network has 4 + 10 a. The other lies above.
    critic = np.array([[0.0], [50.0]]), np.array([[1.0], [1.0]])
    target = np.array([[4.0], [90.0]]), np.array([[10.0], [1.0]])
    state = with_critics(init(learner, batch), critic, target)
    policy = "policy" if name == "awac" else "behavior"
    state = state.replace(**{policy: nearly_deterministic(getattr(state, policy), np.array([[0.2]]))})
    _, metrics = update(learner, state, batch, jax.random.key(0))
    errors = np.array([0.5, 50.5]) - (1.0 + 0.5 * next_q)
    np.testing.assert_allclose(metrics["critic/loss"], (errors**2).sum(), rtol=0.01)
    # Adam's first step is the rate: the new slope is 1.1; an action deviates by 0.007.
    advantage = 1.1 * (0.5 - 0.2)
    np.testing.assert_allclose(metrics["actor/advantage"], advantage, atol=0.03)
    weight = np.exp(float(learner.policy.awr_temperature) * advantage)
    np.testing.assert_allclose(metrics["actor/weight"], weight, rtol=0.1)
