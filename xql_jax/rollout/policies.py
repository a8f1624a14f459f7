"""Policies as evaluations call them, with or without a memory of their episodes."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from xql_jax.errors import UserError

Act = Callable[[np.ndarray], np.ndarray]  # observations f32[M, K, O] to actions f32[M, K, A]


@dataclasses.dataclass(frozen=True)
class RecurrentPolicy:
    """Policies that act by what they have seen of an episode; all episodes of a call begin together.

    The caller calls `begin` before the first step, and `remember` after every step. It may overwrite the
    rewards afterwards.
    """

    act: Act
    begin: Callable[[], None]
    remember: Callable[[np.ndarray], None]  # takes the rewards f64[M, K] of the step

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        return self.act(observations)


def around(policy: Act, act: Act) -> Act:
    """Returns `act`, a function that calls the policy, together with the policy's memory if it has one."""
    return dataclasses.replace(policy, act=act) if isinstance(policy, RecurrentPolicy) else act


class Transforms(Protocol):
    """What was done to a policy's data, and is done to what it meets; a run's `Preprocessing` is one."""

    def observations(self, observations: Any) -> Any: ...

    def rewards_met(self, observations: Any, rewards: Any) -> Any: ...


def prepared(policy: Act, preprocessing: Transforms) -> Act:
    """Returns the policy for an environment's raw observations and rewards, which are transformed for it."""

    def act(observations: np.ndarray) -> np.ndarray:
        return policy(preprocessing.observations(observations))

    if not isinstance(policy, RecurrentPolicy):
        return act
    remember_transformed = policy.remember
    latest: np.ndarray | None = None  # the observations before the step whose rewards come next

    def act_and_keep(observations: np.ndarray) -> np.ndarray:
        nonlocal latest
        latest = np.array(observations)  # a copy: the caller may overwrite them
        return act(observations)

    def remember(rewards: np.ndarray) -> None:
        if latest is None:
            raise UserError("a policy remembers the rewards of its last actions, and it has not acted yet")
        remember_transformed(preprocessing.rewards_met(latest, np.asarray(rewards, np.float32)))

    return RecurrentPolicy(act_and_keep, policy.begin, remember)
