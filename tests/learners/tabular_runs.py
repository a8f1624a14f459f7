"""Learners as tables: one-hot observations and pairs, no hidden layers, all data as one batch."""

import jax
import jax.numpy as jnp
import numpy as np
from learner_runs import init, make
from linear_runs import run_updates

from xql_jax.settings import values_of, with_values
from xql_jax.theory.soft_mdp import SoftMDP, value_iteration
from xql_jax.types import Batch, SarsaBatch

DISCOUNT = 0.9
STATES, ACTIONS = 6, 3
# Whole numbers of rows: of each pair, so many go on to each next action as mu has it.
COUNTS = np.array([[1, 3, 0], [2, 1, 1], [1, 1, 2], [4, 0, 0], [2, 2, 0], [1, 2, 1]])


def transitions(num_successors, counts=COUNTS):
    """Rows (s, a, r, s', a'): as many of each as mu(a|s), P(s'|s, a), mu(a'|s') want.

    Every pair leads to so many states, equally likely, of which state 6 is the terminal one.
    """
    successors = np.random.default_rng(5).integers(0, STATES + 1, (STATES, ACTIONS, num_successors))
    rewards = np.random.default_rng(3).uniform(-1.0, 2.0, (STATES, ACTIONS))
    rows = [
        (s, a, rewards[s, a], after, following)
        for s, a in np.argwhere(counts)
        for after in successors[s, a]
        for following, count in enumerate(counts[after % STATES])
        for _ in range(count * counts[s, a])
    ]
    states, actions, r, after, following = (np.array(column) for column in zip(*rows, strict=True))
    return states, actions, r, after, following


def empirical_mdp(data, beta=1.0):
    """The MDP of the data, whose last state is the terminal one."""
    shape = {"num_states": STATES + 1, "num_actions": ACTIONS}
    return SoftMDP.from_transitions(*data[:4], **shape, discount=DISCOUNT, beta=beta)


def exact_q(data, policy):
    """V and Q of a policy [S, A] in the data's MDP, less its terminal state, in which nothing ends."""
    mdp = empirical_mdp(data)
    v = mdp.expected_returns(np.vstack([policy, np.full((1, ACTIONS), 1 / ACTIONS)]))
    return v[:STATES], mdp.backup(v)[:STATES]


def soft_optimum(data, beta):
    """V, Q and the policy."""
    solution = value_iteration(empirical_mdp(data, beta), 1e-9)
    return solution.v, solution.q, solution.policy


def one_hot_batch(states, actions, rewards, next_states, next_actions):
    """Transitions between numbered states, of which `STATES` itself stands for the terminal one.

    Observations are one-hot; actions are too, but by pair, so that Q is a table.
    """

    def pairs(states, actions):
        return jnp.eye(STATES * ACTIONS)[states * ACTIONS + actions]

    alive = next_states % STATES  # a terminal state looks like state 0; its mask hides it
    batch = Batch(
        observations=jnp.eye(STATES)[states],
        actions=pairs(states, actions),
        rewards=jnp.asarray(rewards, jnp.float32),
        masks=jnp.asarray(next_states < STATES, jnp.float32),
        next_observations=jnp.eye(STATES)[alive],
    )
    return SarsaBatch(*batch, pairs(alive, next_actions))


STAGES = ((3e-2, 2000), (3e-3, 1500), (3e-4, 500))  # Adam's rate, updates


def train(algorithm, batch, stages=STAGES, **config):
    """Trains on the whole data as the batch, with Adam's rate falling in stages."""
    learner = make(algorithm, (), **{"discount": DISCOUNT, "tau": 0.1, **config})
    if "layer_norm" in values_of(learner):
        learner = with_values(learner, {"layer_norm": False})
    state = init(learner, batch)
    names = [name for name in values_of(learner) if name in ("actor_lr", "value_lr", "critic_lr")]
    for rate, count in stages:
        learner = with_values(learner, dict.fromkeys(names, rate))
        state = run_updates(learner, state, batch, jax.random.key(0), count)
    return learner, state


def learnt_v(state):
    """V of every state but the terminal one."""
    return state.value(jnp.eye(STATES))


def learnt_q(state, batch):
    """Q of every transition's pair."""
    return state.critic.min_q(batch.observations, batch.actions)


def learnt_policy(learner, state):
    """The mean of one-hot actions under Eq. 12's weights is Eq. 2's policy: pi(a|s), [S, A]."""
    mean = learner.act(learner.actor(state), jnp.eye(STATES), jax.random.key(0), True)
    return mean.reshape(STATES, STATES, ACTIONS)[np.arange(STATES), np.arange(STATES)]


def close(found, expected):
    """Within 1% of the range."""
    np.testing.assert_allclose(found, expected, atol=0.01 * np.ptp(expected))
