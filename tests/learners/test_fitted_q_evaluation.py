"""FQE against the exact Q of a policy, by a linear solve on a small MDP; and many policies at once."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tabular_runs import DISCOUNT, one_hot_batch

from xql_jax.learners import fields
from xql_jax.learners.fields import with_hyperparameters
from xql_jax.learners.fitted_q_evaluation import FittedQEvaluation

STATES, ACTIONS = 6, 3
PAIRS = STATES * ACTIONS


def make_dataset():
    """Transitions (s, a, r, s') of a stochastic MDP, every pair at least once; state 6 is terminal."""
    generator = np.random.default_rng(1)
    dynamics = generator.dirichlet(np.full(STATES + 1, 0.4), (STATES, ACTIONS))
    rewards = generator.uniform(-1.0, 3.0, (STATES, ACTIONS))
    counts = generator.integers(1, 6, (STATES, ACTIONS))
    states, actions = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    next_states = [
        generator.choice(STATES + 1, p=dynamics[pair]) for pair in zip(states, actions, strict=True)
    ]
    return states, actions, rewards[states, actions], np.array(next_states)


S, A, R, NEXT = make_dataset()
BATCH = one_hot_batch(S, A, R, NEXT, num_states=STATES, num_actions=ACTIONS)
POLICY = np.array([2, 0, 1, 1, 2, 0])  # an action a state


def exact_q(next_policy, *, sign=1.0, terminal=True):
    """Q f64[S, A] of the data's empirical MDP where s' is left by `next_policy` f64[S, A], by a linear solve.

    What a mistake would make of it: another sign of the bootstrap, or bootstrapping from terminal states,
    which look like state 0.
    """
    pair = S * ACTIONS + A
    counts = np.bincount(pair, minlength=PAIRS)
    rewards = np.bincount(pair, R, PAIRS) / counts
    following = np.zeros((PAIRS, STATES))
    alive = (NEXT < STATES) | (not terminal)
    np.add.at(following, (pair[alive], NEXT[alive] % STATES), 1.0)
    spread = np.zeros((STATES, PAIRS))
    spread[np.arange(PAIRS) // ACTIONS, np.arange(PAIRS)] = np.ravel(next_policy)
    onward = sign * DISCOUNT * (following / counts[:, None]) @ spread
    return np.linalg.solve(np.eye(PAIRS) - onward, rewards).reshape(STATES, ACTIONS)


def table(policy):
    """An actor's parameters: a row a state, the action one-hot by pair, as `one_hot_batch` has actions."""
    return jnp.eye(PAIRS)[np.arange(STATES) * ACTIONS + policy]


@flax.struct.dataclass
class Tabular(fields.Part):
    """A learner that has nothing but a table of actions, and knows no chance."""

    def init(self, key, observations, actions):
        return jnp.zeros((STATES, PAIRS))

    def actor(self, state):
        return state

    def act(self, actor, observations, key, deterministic):
        assert deterministic
        return observations @ actor


LEARNER = with_hyperparameters(
    FittedQEvaluation(Tabular()),
    {
        "critic_hidden_dims": (),
        "critic_layer_norm": False,
        "discount": DISCOUNT,
        "tau": 0.1,
        "num_critics": 1,
    },
)


def learn(policy, batch=BATCH, **changes):
    """Q f32[S, A] once it has learned of the whole data as the batch, Adam's rate falling in stages."""
    learner = with_hyperparameters(LEARNER, changes)
    state = learner.init(jax.random.key(0), batch.observations, batch.actions)
    state = learner.evaluating(state, table(policy))

    @jax.jit
    def updates(learner, state, count):
        def update(_, state):
            return learner.update(state, batch, jax.random.key(0))[0]

        return jax.lax.fori_loop(0, count, update, state)

    for rate, count in ((3e-2, 2000), (3e-3, 1500), (3e-4, 500)):
        state = updates(with_hyperparameters(learner, {"critic_lr": rate}), state, count)
    pairs = np.arange(PAIRS)
    q = learner.q(state, jnp.eye(STATES)[pairs // ACTIONS], jnp.eye(PAIRS))
    np.testing.assert_array_equal(state.policy, table(policy))  # no update touches it
    values = learner.values(state, jnp.eye(STATES))
    np.testing.assert_array_equal(values, q.reshape(STATES, ACTIONS)[np.arange(STATES), policy])
    return q.reshape(STATES, ACTIONS)


@pytest.mark.parametrize("policy", [POLICY, (POLICY + 1) % ACTIONS], ids=["one", "another"])
@pytest.mark.parametrize("num_critics", [1, 2])
def test_it_reaches_the_exact_values_of_the_policy(policy, num_critics):
    q = exact_q(np.eye(ACTIONS)[policy])
    np.testing.assert_allclose(learn(policy, num_critics=num_critics), q, atol=0.01 * np.ptp(q))
