"""Discounted returns-to-go of trajectories, recorded ones and those that a policy is just making."""

from typing import Any

import numpy as np

from xql_jax.types import CalibratedBatch


def discounted_returns(rewards: Any, masks: Any, ends: Any, discount: float) -> np.ndarray:
    """Returns f32[N], the discounted returns from each transition of trajectories on, reward units.

    Where a trajectory ends without a terminal, its last reward goes on forever.

    Source: nakamotoo/Cal-QL, branch dev/add-kitchen, JaxCQL/replay_buffer.py, lines 268 to 300.
    Args:
        rewards, masks: f32[N].
        ends: bool[N], each trajectory's last transition, the last of all included.
        discount: below 1.
    """
    rewards = np.asarray(rewards, np.float64)
    following = np.where(ends, np.asarray(masks) * rewards / (1.0 - discount), 0.0)
    returns = rewards + discount * following
    for row in reversed(np.flatnonzero(~np.asarray(ends)).tolist()):
        returns[row] += discount * returns[row + 1]
    return returns.astype(np.float32)


class RunningReturns:
    """The rewards of N environments' running episodes; when these end, their returns-to-go are known.

    Args:
        number: N.
    """

    def __init__(self, number: int):
        self._rows: list[list[tuple[int, float, float]]] = [[] for _ in range(number)]
        self._known: list[tuple[int, float]] = []

    def step(self, first: int, batch: Any, ended: np.ndarray, discount: float) -> CalibratedBatch:
        """Returns a transition of each environment with an unknown return-to-go, -inf.

        Args:
            first: the number of the first environment's transition; the others' follow.
            batch: NumPy f32[N, ...].
            ended: bool[N], where an episode ends, by a terminal or a time-out.
        """
        for index, rows in enumerate(self._rows):
            rows.append((first + index, float(batch.rewards[index]), float(batch.masks[index])))
            if ended[index]:
                numbers, rewards, masks = zip(*rows, strict=True)
                is_last = np.arange(len(rows)) == len(rows) - 1
                returns = discounted_returns(rewards, masks, is_last, discount)
                self._known += zip(numbers, returns.tolist(), strict=True)
                rows.clear()
        unknown: Any = np.full(len(ended), -np.inf, np.float32)
        return CalibratedBatch(**batch._asdict(), returns_to_go=unknown)

    def known(self) -> list[tuple[int, float]]:
        """Returns (transition's number, return-to-go) of the episodes that have ended since the last call."""
        known, self._known = self._known, []
        return known
