"""X-SAC: V is the log-mean-exp of Q over the policy's actions, between its mean and its maximum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import flat, init, make, make_batch, update
from online_runs import MEANS, STDS, gradient, min_q, one_hot_states, policy_nodes, prepared, train_alone

from xql_jax.learners.fields import hyperparameters
from xql_jax.learners.registry import make_learner


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


@pytest.mark.slow
def test_large_beta_is_sac_without_log_probabilities():
    """beta -> inf: the Gumbel loss becomes the squared error times 1 / (2 beta^2), and V the mean of Q.

    SAC whose coefficient is nearly 0 has the same targets; all else is the same code.
    """
    beta, batch, key = 300.0, make_batch(), jax.random.key(1)
    states, steps = [], []
    for learner in (
        make("xsac", beta=beta, initial_entropy_coef=1e-12),
        make("sac", initial_entropy_coef=1e-12),
    ):
        state = init(learner, batch)
        after, metrics = update(learner, state, batch, key)
        states.append(after)
        steps.append(gradient(after.value))
    assert set(metrics) >= {"value/v", "critic/q", "actor/entropy", "entropy_coef"}
    extreme, soft = map(flat, steps)
    np.testing.assert_allclose(2 * beta**2 * extreme, soft, rtol=0.02, atol=0.02 * np.abs(soft).max())
    for name in ("critic", "policy"):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
            *(getattr(state, name).params for state in states),
        )


def test_the_papers_loss_and_clip_are_the_defaults_beside_sacs():
    own = {"beta": 2.0, "clip": 8.0, "loss": "rescaled", "clip_rule": "both"}
    config, soft = (hyperparameters(make_learner(name)) for name in ("xsac", "sac"))
    del soft["uses_value_network"]
    assert config == soft | own
