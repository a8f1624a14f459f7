"""What a learner's own values say, against theory on a small MDP; and which methods have which values."""

import jax.numpy as jnp
import numpy as np
import pytest
from learner_runs import init, make, make_batch
from slow_cases import slow_but
from tabular_runs import ACTIONS, DISCOUNT, SHAPE, STATES, deterministic, one_hot_batch, stochastic, train

from xql_jax.learners.diagnostics import value_statistics
from xql_jax.learners.in_sample import InSample
from xql_jax.learners.registry import OFFLINE
from xql_jax.theory.soft_mdp import SoftMDP, value_iteration
from xql_jax.types import Batch

BETA = 2.0
EVERYTHING = {"initial_v", "initial_q", "advantage", "td_error"}


@pytest.mark.slow
@pytest.mark.parametrize("transitions", [deterministic, stochastic])
def test_at_the_soft_optimum(transitions):
    s, a, r, after, _ = transitions()
    batch = one_hot_batch(s, a, r, after, **SHAPE)
    mdp = SoftMDP.from_transitions(
        s, a, r, after, num_states=STATES + 1, num_actions=ACTIONS, discount=DISCOUNT, beta=BETA
    )
    solution = value_iteration(mdp, 1e-9)
    v, q = solution.v, solution.q
    policy = {"awr_temperature": 1 / BETA, "max_weight": float("inf")}
    learner, state = train("xql", batch, beta=BETA, clip=30.0, layer_norm=False, **policy)
    first = jnp.eye(STATES)[:2]
    found = value_statistics(learner, state, first, batch)
    pi = mdp.policy(q, v)
    errors = r + DISCOUNT * v[after] - q[s, a]
    expected = {
        "initial_v": v[:2].mean(),
        # Q is linear in actions here: that of their mean, which acts, is the mean of theirs.
        "initial_q": np.where(pi > 0, pi * q, 0.0)[:2].sum(1).mean(),
        "advantage": (q[s, a] - v[s]).mean(),
        "td_error": np.sqrt((errors**2).mean()),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=0.01 * np.ptp(v[:STATES])), name
    if transitions is deterministic:
        assert expected["td_error"] < 1e-6  # there is nothing else that Q could learn
    else:
        assert expected["td_error"] > 0.1 * np.ptp(v[:STATES])


@pytest.mark.parametrize("name", slow_but(sorted(OFFLINE.keys() - {"dt"}), "bc", "xql", "td3_bc"))
def test_each_method_has_what_its_networks_tell(name):
    """Behaviour cloning has no value, value iteration no Q, and off-policy methods no V."""
    batch = make_batch()
    learner = make(name)
    found = value_statistics(learner, init(learner, batch), batch.observations, Batch(*batch[:5]))
    if name in ("bc", "bc10"):
        expected = set()
    elif name == "value_iteration":
        expected = {"initial_v"}
    elif isinstance(learner, InSample):
        expected = EVERYTHING
    else:
        expected = {"initial_q", "td_error"}
    assert found.keys() == expected
    assert all(np.isfinite(number) for number in found.values())
