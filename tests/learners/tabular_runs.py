"""Learners as tables: one-hot observations and pairs, no hidden layers, all data as one batch."""

import jax
import jax.numpy as jnp
from learner_runs import init, make

from xql_jax.learners.critics import min_q
from xql_jax.learners.fields import hyperparameters, with_hyperparameters
from xql_jax.types import Batch, SarsaBatch

DISCOUNT = 0.9


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
    return jax.lax.fori_loop(0, count, lambda i, s: learner.update(s, batch, jax.random.key(0))[0], state)


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
    return state.value.params["params"]["Dense_0"]["kernel"].shape[0]
