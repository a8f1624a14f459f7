"""Policies as evaluations call them, with or without a memory of their episodes."""

import dataclasses
from collections.abc import Callable

import numpy as np

Act = Callable[[np.ndarray], np.ndarray]  # observations f32[M, K, O] to actions f32[M, K, A]


@dataclasses.dataclass(frozen=True)
class Remembering:
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
    return dataclasses.replace(policy, act=act) if isinstance(policy, Remembering) else act


def prepared(
    policy: Act, observe: Callable[[np.ndarray], np.ndarray], reward: Callable[[np.ndarray], np.ndarray]
) -> Act:
    """Returns the policy for an environment's raw observations and rewards, which are transformed for it."""

    def act(observations: np.ndarray) -> np.ndarray:
        return policy(observe(observations))

    if not isinstance(policy, Remembering):
        return act
    remember = policy.remember
    return Remembering(act, policy.begin, lambda rewards: remember(reward(np.asarray(rewards, np.float32))))
