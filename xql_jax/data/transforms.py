"""What is done to a dataset before training: pure functions from Dataset to Dataset."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.errors import UserError

Transform = Callable[[Dataset], Dataset]


def clip_actions(dataset: Dataset, bound: float = 1 - 1e-5) -> Dataset:
    """Clips every action entry to [-bound, bound]; IQL's bound keeps a tanh policy's log-density finite."""
    return _replace(dataset, actions=np.clip(dataset.batch.actions, -bound, bound))


def shift_rewards(dataset: Dataset, shift: float) -> Dataset:
    """Adds `shift`, in reward units, to every reward."""
    return _replace(dataset, rewards=dataset.batch.rewards + np.float32(shift))


def scale_rewards_by_return_range(dataset: Dataset) -> Dataset:
    """Multiplies rewards by 1000 / (max - min) of the trajectory returns, so that returns span 1000.

    Source: IQL's `normalize` for locomotion.
    Raises:
        UserError: if all trajectories have the same return, or there is but one.
    """
    returns = trajectory_returns(dataset)
    span = returns.max() - returns.min()
    if span == 0:
        raise UserError(
            f"{dataset.source}: rewards cannot be scaled by the range of returns, "
            f"all {len(returns)} trajectories return {returns[0]:g}"
        )
    return _replace(dataset, rewards=dataset.batch.rewards * np.float32(1000.0 / span))


def trajectory_returns(dataset: Dataset) -> np.ndarray:
    """Returns f64[T], the undiscounted return of each trajectory in reward units, in file order."""
    starts = np.append(0, np.flatnonzero(dataset.ends)[:-1] + 1)
    return np.add.reduceat(np.asarray(dataset.batch.rewards, np.float64), starts)


def iql_preprocessing(suite: str) -> tuple[Transform, ...]:
    """Returns IQL's transforms for a suite (see `Task.suite`), in the order in which they apply."""
    rewards: dict[str, Transform] = {
        "locomotion": scale_rewards_by_return_range,
        "antmaze": functools.partial(shift_rewards, shift=-1.0),
    }
    return (clip_actions, rewards[suite]) if suite in rewards else (clip_actions,)


def _replace(dataset: Dataset, **fields: Any) -> Dataset:
    return dataclasses.replace(dataset, batch=dataset.batch._replace(**fields))
