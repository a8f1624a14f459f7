"""Value and Q iteration by Gumbel regression: exact for deterministic dynamics, else over-optimistic."""

import jax
import numpy as np
import pytest
from learner_runs import METHODS, flat, init, make, make_batch, update
from tabular_runs import (
    ACTIONS,
    DISCOUNT,
    SHAPE,
    STATES,
    deterministic,
    learnt_policy,
    learnt_q,
    learnt_v,
    one_hot_batch,
    train,
)  # fmt: skip

from xql_jax.learners.registry import make_learner
from xql_jax.theory.soft_mdp import SoftMDP, value_iteration
from xql_jax.types import SarsaBatch

pytestmark = pytest.mark.slow

VARIANTS = ("value_iteration", "q_iteration")


def soft_optimum(data, beta):
    states, actions, rewards, after, _ = data
    mdp = SoftMDP.from_transitions(
        states,
        actions,
        rewards,
        after,
        num_states=STATES + 1,
        num_actions=ACTIONS,
        discount=DISCOUNT,
        beta=beta,
    )
    return value_iteration(mdp, 1e-9)


def learn(algorithm, data, beta):
    batch = one_hot_batch(*data, **SHAPE)
    # A wide clip: the paper's takes the gradient of what lies far below V away, see the loss.
    config = {"beta": beta, "clip": 30.0, "awr_temperature": 1 / beta, "max_weight": float("inf")}
    return batch, *train(algorithm, batch, **config)


@pytest.mark.parametrize("beta", [0.5, 4.0])
@pytest.mark.parametrize("algorithm", ["xql", *VARIANTS])
def test_all_three_schemes_solve_a_deterministic_mdp(algorithm, beta):
    """Eq. 11 with 14 (V and Q), Eq. 36 with 37 (V alone), Eq. 41 with 42, Lemma C.1 (Q alone): within 1%."""
    data = deterministic()
    optimum = soft_optimum(data, beta)
    batch, learner, state = learn(algorithm, data, beta)
    v = optimum.v[:STATES]
    np.testing.assert_allclose(learnt_v(state), v, atol=0.01 * np.ptp(v))
    if algorithm != "value_iteration":
        q = optimum.q[data[0], data[1]]
        np.testing.assert_allclose(learnt_q(state, batch), q, atol=0.01 * np.ptp(q))
    np.testing.assert_allclose(learnt_policy(learner, state, ACTIONS), optimum.policy[:STATES], atol=0.01)


@pytest.mark.parametrize(("algorithm", "network"), [("value_iteration", "value"), ("q_iteration", "critic")])
def test_they_bootstrap_from_the_target_network(algorithm, network):
    # At the fixed points above a target network is like its network, so they do not tell which one is used.
    learner, batch = make(algorithm, ()), make_batch()
    state = init(learner, batch)
    held = getattr(state, network)
    shifted = held.replace(target=jax.tree.map(lambda leaf: leaf + 1.0, held.target))

    def gradient(held, masks):
        changed = batch._replace(masks=np.full_like(batch.masks, masks))
        after, _ = update(learner, state.replace(**{network: held}), changed, jax.random.key(0))
        return flat(getattr(after, network).optimizer_state.mu)

    assert np.abs(gradient(shifted, 1.0) - gradient(held, 1.0)).max() > 1e-3
    np.testing.assert_array_equal(gradient(shifted, 0.0), gradient(held, 0.0))


def test_q_iteration_needs_the_next_actions():
    batch = one_hot_batch(*deterministic()[:4], **SHAPE)
    with pytest.raises(ValueError, match="next_actions"):
        train("q_iteration", batch)
    sarsa = {name for name in METHODS if make_learner(name).batch_type is SarsaBatch}
    assert sarsa == {"q_iteration", "rebrac", "onestep"}
