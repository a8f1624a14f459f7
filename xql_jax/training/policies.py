"""The policies of stacked learners, as an evaluation calls them."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from xql_jax.evaluation.policies import Act, Remembering, around
from xql_jax.learners.train_state import Model
from xql_jax.types import Array, Learner, Params, RememberingLearner, State


def deterministic_policy(learners: Learner, states: State) -> Act:
    """Returns the policies of stacked learners and states: f32[M, K, O] to f32[M, K, A]."""
    policies = jax.device_put((learners, learners.actor(states)), jax.devices()[0])
    if hasattr(learners, "act_remembering"):
        return _remembering_policy(*policies)
    return lambda observations: np.asarray(_act(*policies, observations))


def _remembering_policy(learners: Any, actors: Params) -> Remembering:
    """The policies of learners with a memory, which is kept here from one step to the next."""
    memory: Any = None  # None: episodes begin
    rewards: Any = None  # of the step before; None: not told

    def begin() -> None:
        nonlocal memory, rewards
        memory, rewards = None, np.float32(0.0)

    def remember(seen: np.ndarray) -> None:
        nonlocal rewards
        rewards = np.asarray(seen, np.float32)

    def act(observations: np.ndarray) -> np.ndarray:
        nonlocal memory, rewards
        if rewards is None:
            raise RuntimeError("a policy with a memory was told neither of a beginning nor of rewards")
        given, rewards = np.broadcast_to(rewards, observations.shape[:2]), None
        actions, memory = _act_remembering(learners, actors, memory, observations, given)
        return np.asarray(actions)

    return Remembering(act, begin, remember)


def finite_policy(act: Act, report: Callable[[int], None]) -> Act:
    """Returns policies with 0 in place of what is not finite, so that the other members' episodes go on.

    Finite parameters can be so large that an action is not finite.

    Args:
        report: is given the index of a member with such an action, at every such call.
    """

    def act_finite(observations: np.ndarray) -> np.ndarray:
        actions = act(observations)
        finite = np.isfinite(actions)
        for index in np.flatnonzero(~finite.all(axis=(1, 2))).tolist():
            report(index)
        return np.where(finite, actions, np.float32(0.0))

    return around(act, act_finite)


@jax.jit
def _act(learners: Learner, actors: Model, observations: Array) -> Array:
    def act(learner: Learner, actor: Model, batch: Array) -> Array:
        return learner.act(actor, batch, jax.random.key(0), deterministic=True)

    return jax.vmap(act)(learners, actors, observations)


@jax.jit
def _act_remembering(
    learners: RememberingLearner, actors: Params, memory: Any, observations: Array, rewards: Array
) -> tuple[Array, Any]:
    """Memory None: episodes begin."""

    def act(learner: RememberingLearner, actor: Params, memory: Any, *seen: Array) -> tuple[Array, Any]:
        memory = learner.begin(actor, seen[0]) if memory is None else memory
        return learner.act_remembering(actor, memory, *seen)

    return jax.vmap(act)(learners, actors, memory, observations, rewards)
