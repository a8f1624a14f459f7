"""Compares the first rewards that fine-tuning meets online with those of its data."""

import dataclasses
import logging
from collections.abc import Callable

import numpy as np

LOG = logging.getLogger(__name__)
REWARDS = 1_000  # online, that are compared with the data's
SHARE = 0.2  # of these rewards
TIMES = 20.0  # by which all of these are smaller than the data's


@dataclasses.dataclass
class FirstRewards:
    """Compares the first online rewards of fine-tuning with the data's, and warns once.

    Args:
        rewards: f32[N] of the data, as learners see them.
        to_environment: turns rewards into the environment's units, for the line.
        steps: of each member to compare.
    """

    rewards: np.ndarray
    to_environment: Callable[[np.ndarray], np.ndarray]
    steps: int = REWARDS
    _seen: list[np.ndarray] = dataclasses.field(default_factory=list)

    def __call__(self, step: int, rewards: np.ndarray) -> None:
        """Takes the members' rewards f32[M, n] of the online steps from `step` on."""
        if step >= self.steps:
            return
        self._seen.append(rewards.ravel())
        if step + rewards.shape[1] < self.steps:
            return
        online = np.concatenate(self._seen)
        if why := difference_of_rewards(self.rewards, online):
            ours, theirs = map(self.to_environment, (self.rewards, online))
            LOG.warning(
                f"the first {online.size:,} online rewards are {theirs.min():.4g} to {theirs.max():.4g}, the "
                f"data's {ours.min():.4g} to {ours.max():.4g}: {why}? One Q learns from both: give the data "
                "the environment's rewards"
            )


def difference_of_rewards(rewards: np.ndarray, online: np.ndarray) -> str:
    """Returns how online rewards contradict the data's, f32[N] each, in words; "" if they may agree.

    A new policy may do worse than the data, and sparse rewards may all be 0. But few of its rewards are
    beyond all of the data's, not all are better than most of these, and some are nearly as large.
    """
    rewards, online = (np.asarray(each, np.float64) for each in (rewards, online))
    least, most = rewards.min(), rewards.max()
    size = max(abs(least), abs(most))
    rounding = 1e-3 * size
    margin = max((most - least) / 2, 0.1 * size)
    if least >= 0 < most and online.max() <= 0 and (online < -rounding).mean() > SHARE:
        return "another sign, or costs in place of rewards"
    if most <= 0 > least and online.min() >= 0 and (online > rounding).mean() > SHARE:
        return "another sign, or rewards in place of costs"
    if ((online < least - margin) | (online > most + margin)).mean() > SHARE:
        return "another unit or offset"
    if online.min() > np.quantile(rewards, 0.75) + rounding:
        return "another unit or offset, as 0 and 1 beside -1 and 0"
    sizes, met = (np.abs(each[each != 0]) for each in (rewards, online))
    if sizes.size and met.size and met.max() * TIMES < np.quantile(sizes, 0.95):
        return "another unit"
    return ""
