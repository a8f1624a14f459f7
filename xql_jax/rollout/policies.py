"""Policies as evaluations call them, with or without a memory of their episodes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

Act = Callable[[np.ndarray], np.ndarray]  # observations f32[M, K, O] to actions f32[M, K, A]


@dataclasses.dataclass(frozen=True)
class RecurrentPolicy:
    """Policies that act by what they have seen of an episode; all episodes of a call begin together.

    The caller calls `begin` before the first step, and `remember` after every step.
    """

    act: Act
    begin: Callable[[], None]
    remember: Callable[[np.ndarray], None]  # takes the rewards f64[M, K] of the step

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        return self.act(observations)


def around(policy: Act, act: Act) -> Act:
    """Returns `act`, a function that calls the policy, together with the policy's memory if it has one."""
    return dataclasses.replace(policy, act=act) if isinstance(policy, RecurrentPolicy) else act


def prepared(policy: Act, preprocessing: Any) -> Act:
    """Returns the policy in an environment's own units, see `Preprocessing`."""
    recurrent = policy if isinstance(policy, RecurrentPolicy) else None
    latest = np.empty(0)  # the observations before the step whose rewards come next

    def act(observations: np.ndarray) -> np.ndarray:
        nonlocal latest
        if recurrent:
            latest = np.array(observations)  # a copy: the caller may overwrite them
        actions = policy(preprocessing.observations(observations))
        return preprocessing.action_bounds.to_environment(actions)

    if recurrent is None:
        return act

    def remember(rewards: np.ndarray) -> None:
        recurrent.remember(preprocessing.rewards_met(latest, np.asarray(rewards, np.float32)))

    return RecurrentPolicy(act, recurrent.begin, remember)
