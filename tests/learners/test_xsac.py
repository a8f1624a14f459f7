"""X-SAC: V is the log-mean-exp of Q over the policy's actions, between its mean and its maximum."""

import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import make
from online_runs import MEANS, STDS, min_q, one_hot_states, policy_nodes, prepared, train_alone


def soft_maximum(beta):
    """L^beta of min Q over the policy's actions, in every state, by quadrature."""
    values = []
    for state in range(3):
        actions, weights, _ = policy_nodes(MEANS[state, 0], STDS[state, 0])
        values.append(beta * np.log(weights @ np.exp(min_q(state, actions) / beta)))
    return np.array(values)


@pytest.mark.parametrize("beta", [0.5, 2.0, 100.0])
def test_v_learns_the_log_mean_exp_over_the_policy(beta):
    """Eq. 11 with a ~ pi_k(.|s) and no log-probabilities: V = L^beta[min Q], here within 1%."""
    learner = make("xsac", (), beta=beta, initial_entropy_coef=5.0)
    batch = one_hot_states(3, repeats=256)
    state = train_alone(learner, prepared(learner, batch), batch, "value_lr")
    expected = soft_maximum(beta)
    np.testing.assert_allclose(state.value(jnp.eye(3)), expected, atol=0.01 * np.ptp(expected))


def test_the_betas_are_told_apart():
    # Otherwise the test above would pass with a wrong beta.
    low, middle, high = (soft_maximum(beta) for beta in (0.5, 2.0, 100.0))
    assert np.abs(low - middle).max() > 0.05 * np.ptp(low)
    assert np.abs(middle - high).max() > 0.05 * np.ptp(high)
