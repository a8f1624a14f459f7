"""ReBRAC: its target and its actor's loss by hand, TD3 as its limit, and layer norm in the critic alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import flat, init, make, make_batch, update
from linear_runs import one_update, transition
from online_runs import gradient

from xql_jax.networks.policies import td3_init

# One state, in which the policy does (0.5, 0), and two critics: Q_1 = 2 a_1 + 1, Q_2 = a_2 + 3.
POLICY = np.array([[0.5, 0.0]])
CRITICS = np.array([[1.0], [3.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])
# Their targets, at the policy's action: 2.5 and 2.
TARGETS = np.array([[2.0], [3.0]]), np.array([[1.0, 0.0], [-2.0, 0.0]])
# The data's next action is (-0.5, 0.5) away: at a coefficient of 0.3, 0.3 * (1 + 0.25) is taken off.
NEXT_ACTION = [[-0.5, 0.5]]
COEFFICIENTS = {"actor_bc_coef": 0.2, "critic_bc_coef": 0.3, "discount": 0.5}


def updated(mask, **changes):
    batch = transition([[1.0]], [[0.25, -0.5]], [1.0], [[1.0]], NEXT_ACTION, [mask])
    return one_update("rebrac", batch, POLICY, CRITICS, TARGETS, **{**COEFFICIENTS, **changes})


@pytest.mark.parametrize(
    ("changes", "mask", "target"),
    [
        ({}, 1.0, 1.0 + 0.5 * (2.0 - 0.375)),
        ({"critic_bc_coef": 0.0}, 1.0, 1.0 + 0.5 * 2.0),
        ({}, 0.0, 1.0),  # after a terminal state nothing is penalised, whatever action stands there
    ],
)
def test_the_target_by_hand(changes, mask, target):
    """Q_1 of the data's action is 1.5 and Q_2 is 2.5; the loss is the sum of both squared errors."""
    _, slopes, metrics = updated(mask, **changes)
    q = np.array([1.5, 2.5])
    np.testing.assert_allclose(metrics["critic/loss"], ((q - target) ** 2).sum(), rtol=1e-5)
    inputs = np.array([[1.0], [0.25], [-0.5]])
    np.testing.assert_allclose(slopes, [2.0 * (x - target) * inputs for x in q], rtol=1e-4)


@pytest.mark.parametrize("first", [0, 1])
def test_the_actors_loss_by_hand(first):
    """The least Q, whichever critic's, is 2 at the policy's action, and its own unit; errors 0.25, 0.5."""
    order = [first, 1 - first]
    batch = transition([[1.0]], [[0.25, -0.5]], [1.0], [[1.0]], NEXT_ACTION, [1.0])
    critics = tuple(part[order] for part in CRITICS)
    slopes, _, metrics = one_update("rebrac", batch, POLICY, critics, **COEFFICIENTS)
    np.testing.assert_allclose(metrics["actor/loss"], 0.2 * (0.0625 + 0.25) - 1.0, rtol=1e-5)
    by_action = 0.2 * 2.0 * np.array([0.25, 0.5]) - np.array([2.0, 0.0]) / 2.0
    np.testing.assert_allclose(slopes, [by_action * (1.0 - POLICY[0] ** 2)], rtol=1e-5)


def test_without_penalties_it_is_td3():
    """One critic, no layer norm: the critic's step to the bit; the actor's slope is in units of mean |Q|."""
    batch, states = make_batch(), []
    plain = {"num_critics": 1, "actor_period": 1}
    off = {"actor_bc_coef": 0.0, "critic_bc_coef": 0.0, "critic_layer_norm": False}
    for learner in (make("rebrac", **plain, **off), make("td3", **plain, kernel_init=td3_init)):
        before = init(learner, batch)
        after, _ = update(learner, before, batch, jax.random.key(0))
        states.append(after)
    penalized, td3 = states
    np.testing.assert_array_equal(flat(penalized.critic), flat(td3.critic))
    q = td3.critic.at(td3.critic.params[0], batch.observations, before.policy(batch.observations))
    slopes = flat(gradient(penalized.policy)), flat(gradient(td3.policy))
    np.testing.assert_allclose(np.abs(q).mean() * slopes[0], slopes[1], rtol=1e-3, atol=1e-5)
    assert np.abs(slopes[1]).max() > 0.01


@pytest.mark.parametrize(("layer_norm", "layer"), [(True, 1), (True, 2), (False, 1)])
def test_layer_norm_is_in_every_hidden_layer_of_the_critic(layer_norm, layer):
    """Where there is one, the size of a layer's kernel does not matter (biases are 0)."""
    batch = make_batch()
    learner = make("rebrac", (16, 16), critic_layer_norm=layer_norm)
    state = init(learner, batch)
    assert "LayerNorm" not in str(jax.tree.structure(state.policy.params))
    params = jax.tree.map(jnp.copy, state.critic.params[0])
    q = state.critic.at(params, batch.observations, batch.actions)
    name = f"Dense_{layer - 1}"
    params["params"]["MLP_0"][name]["kernel"] *= 30.0
    other = state.critic.at(params, batch.observations, batch.actions)
    assert (np.abs(other - q).max() < 0.01 * np.abs(q).max()) == layer_norm
