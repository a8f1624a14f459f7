"""Learners as tables: one-hot observations and pairs, no hidden layers, all data as one batch."""

import jax
import jax.numpy as jnp
import numpy as np
from learner_runs import init, make

from xql_jax.learners.fields import hyperparameters, with_hyperparameters
from xql_jax.learners.parts import min_q
from xql_jax.types import Batch, SarsaBatch

DISCOUNT = 0.9
STATES, ACTIONS = 6, 3
SHAPE = {"num_states": STATES, "num_actions": ACTIONS}
# Whole numbers of rows: of each pair, so many go on to each next action as mu has it.
COUNTS = np.array([[1, 3, 0], [2, 1, 1], [1, 1, 2], [4, 0, 0], [2, 2, 0], [1, 2, 1]])


def make_transitions(successors):
    """Rows (s, a, r, s', a'), as many of each as mu(a|s), P(s'|s, a), mu(a'|s') want; from s' [S, A, K]."""
    generator = np.random.default_rng(3)
    rewards = generator.uniform(-1.0, 2.0, (STATES, ACTIONS))
    rows = [
        (s, a, rewards[s, a], after, following)
        for s, a in np.argwhere(COUNTS)
        for after in successors[s, a]
        for following, count in enumerate(COUNTS[after % STATES])
        for _ in range(count * COUNTS[s, a])
    ]
    states, actions, r, after, following = (np.array(column) for column in zip(*rows, strict=True))
    return states, actions, r, after, following


def deterministic():
    """State 6 is the terminal one."""
    return make_transitions(np.random.default_rng(5).integers(0, STATES + 1, (STATES, ACTIONS, 1)))


def stochastic():
    """Every pair leads to two states, equally likely."""
    return make_transitions(np.random.default_rng(5).integers(0, STATES, (STATES, ACTIONS, 2)))


def one_hot_batch(states, actions, rewards, next_states, next_actions=None, *, num_states, num_actions):
    """Transitions between numbered states, of which `num_states` itself stands for the terminal one.

    Observations are one-hot; actions are too, but by pair, so that Q is a table.
    """

    def pairs(states, actions):
        return jnp.eye(num_states * num_actions)[states * num_actions + actions]

    alive = next_states % num_states  # a terminal state looks like state 0; its mask hides it
    batch = Batch(
        observations=jnp.eye(num_states)[states],
        actions=pairs(states, actions),
        rewards=jnp.asarray(rewards, jnp.float32),
        masks=jnp.asarray(next_states < num_states, jnp.float32),
        next_observations=jnp.eye(num_states)[alive],
    )
    return batch if next_actions is None else SarsaBatch(*batch, pairs(alive, next_actions))


@jax.jit
def _updates(learner, state, batch, count):
    def update(i, state):
        return learner.update(state, batch, jax.random.fold_in(jax.random.key(0), i))[0]

    return jax.lax.fori_loop(0, count, update, state)


STAGES = ((3e-2, 2000), (3e-3, 1500), (3e-4, 500))  # Adam's rate, updates


def train(algorithm, batch, stages=STAGES, **config):
    """Trains on the whole data as the batch, with Adam's rate falling in stages."""
    learner = make(algorithm, (), **{"discount": DISCOUNT, "tau": 0.1, **config})
    state = init(learner, batch)
    names = [name for name in hyperparameters(learner) if name in ("actor_lr", "value_lr", "critic_lr")]
    for rate, count in stages:
        state = _updates(with_hyperparameters(learner, dict.fromkeys(names, rate)), state, batch, count)
    return learner, state


def learnt_v(state):
    """V of every state but the terminal one."""
    return state.value(jnp.eye(_num_states(state)))


def learnt_q(state, batch):
    """Q of every transition's pair."""
    return min_q(state.critic, state.critic.params, batch.observations, batch.actions)


def learnt_policy(learner, state, num_actions):
    """The mean of one-hot actions under Eq. 12's weights is Eq. 2's policy: pi(a|s), [S, A]."""
    num_states = _num_states(state)
    mean = learner.act(learner.actor(state), jnp.eye(num_states), jax.random.key(0), True)
    states = jnp.arange(num_states)
    return mean.reshape(num_states, num_states, num_actions)[states, states]


def _num_states(state):
    return state.policy.params["params"]["Dense_0"]["kernel"].shape[0]
