"""Policies as an evaluation calls them, with or without a memory of their episodes."""

import dataclasses
from collections.abc import Callable

import numpy as np

Act = Callable[[np.ndarray], np.ndarray]  # observations f32[M, K, O] to actions f32[M, K, A]


@dataclasses.dataclass(frozen=True)
class Remembering:
    """Policies that act by what they have seen of an episode; all episodes of a call begin together.

    Whoever runs them calls `begin` before the first step, and `remember` after every step, with rewards that
    may be overwritten afterwards.
    """

    act: Act
    begin: Callable[[], None]
    remember: Callable[[np.ndarray], None]  # of the rewards f64[M, K] that the step gave

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        return self.act(observations)


def around(policy: Act, act: Act) -> Act:
    """Returns `act`, which calls the policy, with the policy's memory if it has one."""
    return dataclasses.replace(policy, act=act) if isinstance(policy, Remembering) else act


def prepared(
    policy: Act, observe: Callable[[np.ndarray], np.ndarray], reward: Callable[[np.ndarray], np.ndarray]
) -> Act:
    """Returns the policy for an environment's own observations and rewards, which it knows transformed."""

    def act(observations: np.ndarray) -> np.ndarray:
        return policy(observe(observations))

    if not isinstance(policy, Remembering):
        return act
    remember = policy.remember
    return Remembering(act, policy.begin, lambda rewards: remember(reward(np.asarray(rewards, np.float32))))
