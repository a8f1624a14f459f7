"""What is done to a dataset before training: pure functions from Dataset to Dataset."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.data.mapped import MappedDataset
from xql_jax.errors import UserError
from xql_jax.types import Batch

AnyDataset = Dataset | MappedDataset
Transform = Callable[[AnyDataset], AnyDataset]


def clip_actions(dataset: AnyDataset, bound: float = 1 - 1e-5) -> AnyDataset:
    """Clips every action entry to [-bound, bound]; IQL's bound keeps a tanh policy's log-density finite."""
    return dataset.apply(lambda batch: _replaced(batch, actions=np.clip(batch.actions, -bound, bound)))


def shift_rewards(dataset: AnyDataset, shift: float) -> AnyDataset:
    """Adds `shift`, in reward units, to every reward."""
    return dataset.apply(lambda batch: _replaced(batch, rewards=batch.rewards + np.float32(shift)))


def scale_rewards_by_return_range(dataset: AnyDataset) -> AnyDataset:
    """Multiplies rewards by 1000 / (max - min) of the trajectory returns, so that returns span 1000.

    Source: IQL's `normalize` for locomotion.
    Raises:
        UserError: if all trajectories have the same return, or there is but one.
    """
    returns = dataset.trajectory_returns()
    span = returns.max() - returns.min()
    if span == 0:
        raise UserError(
            f"{dataset.source}: rewards cannot be scaled by the range of returns, "
            f"all {len(returns)} trajectories return {returns[0]:g}"
        )
    scale = np.float32(1000.0 / span)
    return dataset.apply(lambda batch: _replaced(batch, rewards=batch.rewards * scale))


def iql_preprocessing(suite: str | None) -> tuple[Transform, ...]:
    """Returns IQL's transforms for a suite (see `Task.suite`), in the order in which they apply.

    Without a suite, where nothing says what rewards mean, they are left as they are.
    """
    rewards: dict[str | None, Transform] = {
        "locomotion": scale_rewards_by_return_range,
        "bullet": scale_rewards_by_return_range,
        "antmaze": functools.partial(shift_rewards, shift=-1.0),
    }
    return (clip_actions, rewards[suite]) if suite in rewards else (clip_actions,)


def _replaced(batch: Batch, **fields: Any) -> Batch:
    """Any: a Batch is typed for arrays on the device, and here they are the host's."""
    return batch._replace(**fields)
