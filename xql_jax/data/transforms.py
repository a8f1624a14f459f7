"""What is done to a dataset before training: pure functions from Dataset to Dataset."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.data.mapped import MappedDataset
from xql_jax.errors import UserError
from xql_jax.types import AnyBatch, SarsaBatch

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


def add_next_actions(dataset: AnyDataset) -> Dataset:
    """Gives every transition the action that the data's policy took next, in s'.

    A trajectory's last transition has none. Where it is terminal its mask hides whatever stands there; where
    it is a time-out or a jump in the data, it is left out.
    Raises:
        UserError: if the data stay on disk, or no transition is left.
    """
    if isinstance(dataset, MappedDataset):
        raise UserError(
            f"{dataset.source}: the algorithm also learns from the action after each transition, which is "
            "not read from disk: --data_on=host reads all into memory"
        )
    batch = dataset.batch
    known = ~dataset.ends | (np.asarray(batch.masks) == 0)
    if not known.any():
        raise UserError(f"{dataset.source}: no transition is followed by another, so no next action is known")
    following = np.minimum(np.arange(dataset.size) + 1, dataset.size - 1)
    fields: tuple[Any, ...] = (*batch, np.asarray(batch.actions)[following])
    # What is left of a trajectory whose last row goes ends one row earlier.
    ends = dataset.ends | np.append(~known[1:], False)
    kept = dataclasses.replace(dataset, batch=SarsaBatch(*fields), ends=ends)
    return dataclasses.replace(kept, batch=kept.take(np.flatnonzero(known)), ends=ends[known])


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


def _replaced(batch: AnyBatch, **fields: Any) -> AnyBatch:
    """Any: a Batch is typed for arrays on the device, and here they are the host's."""
    return batch._replace(**fields)
