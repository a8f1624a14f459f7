"""CQL and Cal-QL: the penalty's gradient in closed form with linear critics, its multiplier, its bound."""

import jax
import jax.numpy as jnp
import linear_runs as runs
import numpy as np
import pytest
from learner_runs import QUICKLY, init, make, update
from linear_runs import SLOPES, STATE_TERMS, gradient, linear_actor, one_hot_states, prepared
from scipy import stats

from xql_jax.types import CalibratedBatch

ALPHA, ACTION, DISCOUNT = 3.0, 0.4, 0.9
ACTIONS = 200  # of each kind: enough for the estimate's own bias to vanish
LINEAR = {"hidden_dims": (), "initial_entropy_coef": 0.4, "cql_alpha": ALPHA, "cql_actions": ACTIONS}


def batch_of(repeats):
    """All three states, the action 0.4 in each; s' is another state, whose policy is another."""
    batch = one_hot_states(3, repeats)
    following = jnp.roll(batch.observations, 1, axis=-1)
    return batch._replace(actions=batch.actions + ACTION, next_observations=following)


def broad(learner, batch):
    """The state with linear critics, and policies broad enough for weights of 1 / density to be harmless."""
    state = prepared(learner, batch)
    actor = linear_actor(np.array([[-0.3], [0.0], [0.4]]), np.array([[1.0], [1.2], [0.9]]))
    return state.replace(policy=state.policy.replace(params=actor))


def kernels(state):
    """The slope of the step that was taken, by critic: f32[4], three states' terms and the action's."""
    return [np.ravel(slope) for slope in runs.slopes_of(state.critic)]


def mean_action(slope):
    """The mean of a under the density exp(slope * a) on [-1, 1]."""
    return 1 / np.tanh(slope) - 1 / slope


def log_integral(slope):
    return np.log(2 * np.sinh(slope) / slope)


def expected_gap():
    """The gap of both critics on average, with the log of the number of actions that the estimate has."""
    slopes = SLOPES[:, 0]
    return np.mean(log_integral(slopes) - slopes * ACTION) + np.log(3 * ACTIONS)


def with_rewards_of(critic, batch):
    return batch._replace(rewards=batch.observations @ STATE_TERMS[critic] + SLOPES[critic, 0] * ACTION)


@pytest.mark.parametrize(("critic", "below", "sign"), [(0, 0.1, 1.0), (1, -0.1, -1.0), (1, -np.inf, 0.0)])
def test_the_penalty_and_its_multiplier(critic, below, sign):
    """Q's slope by the action: the mean action under exp(Q) less the data's; by a state's term: 1 - 1.

    With discount 0 and that critic as reward, only the penalty is left. Its multiplier, 2 at first, rises if
    the threshold is below the weighted gap, and stays where there is none.
    """
    threshold = ALPHA * (expected_gap() - below)
    learner = make("cql", discount=0.0, cql_threshold=threshold, critic_lr=0.01, **LINEAR)
    batch = with_rewards_of(critic, batch_of(repeats=64))
    state = broad(learner, batch)
    high = state.critic.log_multiplier.replace(params=jnp.log(2.0))
    state = state.replace(critic=state.critic.replace(log_multiplier=high))
    after, metrics = update(learner, state, batch, jax.random.key(0))
    np.testing.assert_allclose(metrics["critic/gap"], expected_gap(), atol=0.01)
    slope = kernels(after)[critic]
    np.testing.assert_allclose(slope[3], 2 * ALPHA * (mean_action(SLOPES[critic, 0]) - ACTION), atol=0.06)
    np.testing.assert_allclose(slope[:3], 0.0, atol=2e-4)
    # Adam's first step is the rate.
    np.testing.assert_allclose(after.critic.log_multiplier.params, np.log(2.0) + 0.01 * sign, rtol=1e-4)
    if sign:
        np.testing.assert_allclose(gradient(after.critic.log_multiplier), -2.0 * ALPHA * below, atol=0.1)


def test_the_proposals_are_uniform_and_the_policys_in_this_state_and_in_the_next():
    """tanh keeps medians: in both states half of the policies' actions are from either policy."""
    learner, number = make("cql", hidden_dims=(), cql_actions=4000), 4000
    batch = one_hot_states(2, repeats=1, num_actions=2)
    batch = batch._replace(next_observations=batch.observations[::-1])
    means, stds = np.array([[[-0.6, 0.2], [0.5, -0.3]], [[1.0, 1.2], [0.9, 1.1]]])  # [S, A] each
    policy = init(learner, batch).policy.replace(params=linear_actor(means, stds))
    propose = jax.jit(learner.critic.proposals, compiler_options=QUICKLY)
    actions, log_densities = propose(policy, batch, jax.random.key(0))
    np.testing.assert_allclose(np.exp(-log_densities[:number]), 4.0, rtol=1e-6)  # the volume of all actions
    for first, second in ((0, 1), (1, 0)):
        below = [(actions[number:, first] < np.tanh(means[i])).mean(0) for i in (first, second)]
        z = (means[first] - means[second]) / stds
        expected = [0.25 + stats.norm.cdf(z[second]) / 2, 0.25 + stats.norm.cdf(-z[first]) / 2]
        np.testing.assert_allclose(below, expected, atol=0.03)


def test_beneath_the_bound_the_penalty_has_no_gradient_at_the_policys_actions():
    """In state 0 the bound outweighs all: what is left raises Q at the data's action. Elsewhere it is CQL."""
    learner, batch = make("cal_ql", discount=0.0, **LINEAR), with_rewards_of(0, batch_of(repeats=64))
    state, key = broad(learner, batch), jax.random.key(0)

    def slope(returns):
        return kernels(update(learner, state, CalibratedBatch(*batch, jnp.tile(returns, 64)), key)[0])[0]

    unbounded, everywhere = slope(jnp.full(3, -jnp.inf)), slope(jnp.full(3, 1e4))
    cql, _ = update(make("cql", discount=0.0, **LINEAR), state, batch, key)
    np.testing.assert_array_equal(kernels(cql)[0], unbounded)
    np.testing.assert_allclose(everywhere, -ALPHA * np.array([1 / 3, 1 / 3, 1 / 3, ACTION]), rtol=1e-5)
    mixed = slope(jnp.array([1e4, -jnp.inf, -jnp.inf]))
    np.testing.assert_allclose(mixed[:3], [-ALPHA / 3, *unbounded[1:3]], rtol=1e-5, atol=1e-5)
