"""TD3+BC: its actor's loss by hand, what scales and what does not, and behaviour cloning as its limit."""

import jax
import numpy as np
import pytest
from learner_runs import FROZEN, flat, init, make, make_batch, update
from linear_runs import one_update, transition
from online_runs import gradient

from xql_jax.networks.policies import td3_init

# Two states and actions of two components. Q_1 = s . (1, -4) + a . (2, 0) is 1 and -2.8 at the policy's.
EYE = np.eye(2)
POLICY = np.array([[0.0, 0.5], [0.6, -0.2]])
ACTIONS = np.array([[0.5, 0.5], [-1.0, 0.2]])
CRITICS = np.array([[1.0, -4.0], [50.0, 50.0]]), np.array([[2.0, 0.0], [0.0, -7.0]])
BATCH = transition(EYE, ACTIONS, np.zeros(2), EYE, ACTIONS, np.ones(2))

UNIFORM = {"kernel_init": td3_init}  # TD3+BC begins as the first TD3


def test_the_actors_loss_by_hand():
    """lambda is 2.5 / ((1 + 2.8) / 2); the errors are -0.5, 0, 1.6, -0.4, of squares 2.97 in all."""
    slopes, _, metrics = one_update("td3_bc", BATCH, POLICY, CRITICS)
    weight = 2.5 / 1.9
    np.testing.assert_allclose(metrics["actor/loss"], -weight * (1.0 - 2.8) / 2 + 2.97 / 4, rtol=1e-5)
    by_action = -weight * np.array([2.0, 0.0]) / 2 + 2.0 * (POLICY - ACTIONS) / 4
    np.testing.assert_allclose(slopes, by_action * (1.0 - POLICY**2), rtol=1e-5)


def slope_at(name, scale, **changes):
    """The actor's gradient by a frozen critic; its last layer and the rewards are `scale` times as large."""
    learner = make(name, critic_lr=FROZEN, actor_period=1, **changes)
    batch = make_batch()
    state = init(learner, batch)
    scaled = [
        {
            "params": {
                **params["params"],
                "Dense_0": jax.tree.map(lambda x: scale * x, params["params"]["Dense_0"]),
            }
        }
        for params in state.critic.params
    ]
    state = state.replace(critic=state.critic.replace(params=tuple(scaled)))
    after, _ = update(learner, state, batch._replace(rewards=scale * batch.rewards), jax.random.key(0))
    return flat(gradient(after.policy))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_q_and_of_rewards_does_not_matter(scale):
    plain = slope_at("td3_bc", 1.0)
    np.testing.assert_allclose(slope_at("td3_bc", scale), plain, rtol=1e-4, atol=1e-6)
    of_td3 = slope_at("td3", 1.0)
    np.testing.assert_allclose(slope_at("td3", scale), scale * of_td3, rtol=1e-4, atol=1e-4 * scale)
    assert np.abs(of_td3).max() > 0.01  # and there it does


def test_weight_0_is_behaviour_cloning():
    learner, batch = make("td3_bc"), make_batch()
    actor = init(learner, batch).policy
    cloning = jax.grad(lambda params: ((actor.at(params, batch.observations) - batch.actions) ** 2).mean())(
        actor.params
    )
    np.testing.assert_allclose(slope_at("td3_bc", 1.0, q_weight=0.0), flat(cloning), rtol=1e-4, atol=1e-6)
    assert np.abs(slope_at("td3_bc", 1.0, q_weight=0.1) - flat(cloning)).max() > 1e-3


def test_a_large_weight_is_td3():
    climbing, both = slope_at("td3", 1.0, **UNIFORM), slope_at("td3_bc", 1.0, q_weight=1e4)
    cosine = climbing @ both / np.linalg.norm(climbing) / np.linalg.norm(both)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-4)


def test_the_critic_is_td3s():
    batch = make_batch()
    learners = make("td3_bc"), make("td3", critic_lr=3e-4, **UNIFORM)
    first, second = (update(x, init(x, batch), batch, jax.random.key(0))[0].critic for x in learners)
    np.testing.assert_array_equal(flat(first), flat(second))
