"""Diagnostics of a policy from the learner's own V and Q, without an environment."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from xql_jax.learners.parts import min_q
from xql_jax.losses.regression import td_target
from xql_jax.types import Array, Batch, State


def value_statistics(learner: Any, state: State, initial: Array, batch: Batch) -> dict[str, Array]:
    """Mean values over initial states f32[K, O] and over the transitions of a batch, reward units.

    `initial_v`: V(s0). `initial_q`: Q(s0, pi(s0)) with the deterministic policy. `advantage`: Q(s, a) - V(s)
    at the data's actions. `td_error`: the root mean square of r + discount * mask * V(s') - Q(s, a); without
    V, Q(s', pi(s')) takes the place of V(s'). Only those that the method can compute are returned. Q is the
    minimum of the critics. V and Q's targets are those that the method learns from (see `ValueTargets`).
    """
    found: dict[str, Array] = {}
    value, critic = state.value, state.critic
    act = functools.partial(learner.act, learner.actor(state), key=jax.random.key(0), deterministic=True)
    if value is not None:
        found["initial_v"] = value(initial).mean()
    if critic is None:
        return found
    q_of = functools.partial(min_q, critic, critic.params)
    q = q_of(batch.observations, batch.actions)
    found["initial_q"] = q_of(initial, act(initial)).mean()
    if value is None:
        next_q = q_of(batch.next_observations, act(batch.next_observations))
        targets = td_target(batch.rewards, batch.masks, next_q, discount=learner.discount)
    else:
        v, targets, _ = learner.value.read(value, batch, learner.discount)
        found["advantage"] = (q - v).mean()
    return {**found, "td_error": root_mean_square(targets - q)}


def root_mean_square(errors: Array) -> Array:
    return jnp.sqrt(jnp.square(errors).mean())
