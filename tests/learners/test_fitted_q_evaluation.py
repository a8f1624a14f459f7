"""FQE against the exact Q of a policy, by a linear solve on a small MDP; what a learner's own V and Q say."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tabular_runs as runs
from learner_runs import init, make, make_batch
from linear_runs import run_updates
from tabular_runs import ACTIONS, DISCOUNT, STATES

from xql_jax.learners.fitted_q_evaluation import FittedQEvaluation, value_statistics
from xql_jax.learners.method import Part
from xql_jax.settings import with_values
from xql_jax.types import Batch

PAIRS = STATES * ACTIONS
S, A, R, NEXT, _ = DATA = runs.transitions(2, np.ones((STATES, ACTIONS), int))
BATCH = runs.one_hot_batch(*DATA)
POLICY = np.array([2, 0, 1, 1, 2, 0])  # an action a state


def table(policy):
    """An actor's parameters: a row a state, the action one-hot by pair, as `one_hot_batch` has actions."""
    return jnp.eye(PAIRS)[np.arange(STATES) * ACTIONS + policy]


@flax.struct.dataclass
class Tabular(Part):
    """A learner that has nothing but a table of actions, and knows no chance."""

    def init(self, key, observations, actions):
        return jnp.zeros((STATES, PAIRS))

    def actor(self, state):
        return state

    def act(self, actor, observations, key, deterministic):
        assert deterministic
        return observations @ actor


SETTINGS = {"critic_hidden_dims": (), "critic_layer_norm": False, "discount": DISCOUNT, "tau": 0.1}
LEARNER = with_values(FittedQEvaluation(Tabular()), SETTINGS)


@pytest.mark.parametrize("policy", [POLICY, (POLICY + 1) % ACTIONS])
def test_it_reaches_the_exact_values_of_the_policy(policy):
    """The batch is the whole data, and Adam's rate falls in stages."""
    learner = LEARNER
    state = learner.init(jax.random.key(0), BATCH.observations, BATCH.actions)
    state = state.replace(policy=table(policy))
    for rate, count in runs.STAGES:
        learner = with_values(learner, {"critic_lr": rate})
        state = run_updates(learner, state, BATCH, jax.random.key(0), count)
    np.testing.assert_array_equal(state.policy, table(policy))  # no update touches it
    pairs = np.arange(PAIRS)
    critic = state.critic.at_target()
    found = critic.min_q(jnp.eye(STATES)[pairs // ACTIONS], jnp.eye(PAIRS)).reshape(STATES, ACTIONS)
    _, q = runs.exact_q(DATA, np.eye(ACTIONS)[policy])
    np.testing.assert_allclose(found, q, atol=0.01 * np.ptp(q))
    statistics = value_statistics(learner, state.replace(critic=critic), jnp.eye(STATES), BATCH)
    values = found[np.arange(STATES), policy]
    np.testing.assert_allclose(statistics["initial_q"], values.mean(), rtol=1e-6)
    errors = R + DISCOUNT * BATCH.masks * values[NEXT % STATES] - found[S, A]
    np.testing.assert_allclose(statistics["td_error"], np.sqrt(np.mean(errors**2)), atol=1e-5)


@pytest.mark.slow
def test_what_the_values_say_at_the_soft_optimum():
    v, q, pi = runs.soft_optimum(DATA, 2.0)
    policy = {"awr_temperature": 0.5, "max_weight": float("inf")}
    learner, state = runs.train("xql", BATCH, beta=2.0, clip=30.0, **policy)
    found = value_statistics(learner, state, jnp.eye(STATES)[:2], BATCH)
    expected = {
        "initial_v": v[:2].mean(),
        # Q is linear in actions here: that of their mean, which acts, is the mean of theirs.
        "initial_q": np.where(pi > 0, pi * q, 0.0)[:2].sum(1).mean(),
        "advantage": (q[S, A] - v[S]).mean(),
        "td_error": np.sqrt(((R + DISCOUNT * v[NEXT] - q[S, A]) ** 2).mean()),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=0.01 * np.ptp(v[:STATES])), name


@pytest.mark.parametrize("name", ["bc", "xql", "td3_bc", "value_iteration", "cql"])
def test_each_method_has_what_its_networks_tell(name):
    """Behaviour cloning has no value, value iteration no Q, and off-policy methods no V."""
    batch, learner = make_batch(), make(name)
    found = value_statistics(learner, init(learner, batch), batch.observations, Batch(*batch[:5]))
    expected = {"bc": set(), "value_iteration": {"initial_v"}}.get(name, {"initial_q", "td_error"})
    assert found.keys() == expected | ({"initial_v", "advantage"} if name == "xql" else set())
    assert all(np.isfinite(number) for number in found.values())
