"""Turns a dataset into the kind of batches that a learner asks for by its `batch_type`."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.data.dataset import Dataset
from xql_jax.data.sampling import Trajectories
from xql_jax.errors import UserError
from xql_jax.types import ONE_STEP, AnyBatch, Batch, CalibratedBatch, ChunkBatch, Horizon, SarsaBatch, Windows


def view_for(learner: Any, dataset: Dataset, horizon: Horizon = ONE_STEP) -> Dataset:
    """Returns the dataset in the form of the learner's `batch_type`, over the horizon if it is a `Batch`.

    Forms of several rows need rows in order, see `check_order`. Transitions whose next rows are not known are
    left out. UserError if none is left.
    """
    kind, kept = learner.batch_type, None
    batch: Any
    if kind is Batch:
        if horizon.steps == 1:
            return dataset
        discount = getattr(learner, "discount", 1.0)  # cloning has none
        batch, kept = _over_horizon(dataset, horizon, discount)
    elif kind is SarsaBatch:
        batch, kept = _with_next_actions(dataset)
    elif kind is CalibratedBatch:
        batch = _with_returns_to_go(dataset, learner.discount, learner.endless)
    elif kind is Windows:
        batch = _trajectories(dataset, learner.context_length)
    else:
        raise TypeError(f"no view gives a dataset the form of {kind}")
    if kept is None:
        return dataclasses.replace(dataset, batch=batch)
    # A trajectory ends earlier if its last rows are left out.
    ends = dataset.ends | np.append(~kept[1:], False)
    return dataclasses.replace(dataset, batch=batch, ends=ends).part(np.flatnonzero(kept))


def _over_horizon(dataset: Dataset, horizon: Horizon, discount: float) -> tuple[AnyBatch, np.ndarray | None]:
    """Gives every transition the horizon's reward, mask, next observation and, for chunks, actions.

    A trajectory's end cuts a transition short. After a time-out V of the last known state follows. Chunks
    that a time-out cuts are left out, because they were not carried out to their end. After a terminal a
    chunk holds whatever actions follow in the data, and its `valid` is 0 there.

    Returns:
        The batch, and bool[N], the transitions to keep; None if all are.
    """
    batch, steps = dataset.batch, horizon.steps
    first, lengths = np.arange(dataset.size), dataset.trajectory_lengths()
    last = np.repeat(np.flatnonzero(dataset.ends), lengths)
    spans = np.minimum(last - first + 1, steps)
    final = first + spans - 1
    rewards = np.zeros(dataset.size)
    for step in range(steps):
        rows = np.flatnonzero(step < spans)
        rewards[rows] += discount**step * batch.rewards[rows + step]
    masks = batch.masks[final] * discount ** (spans - 1.0)
    over_steps = batch._replace(
        rewards=rewards.astype(np.float32),
        masks=masks.astype(np.float32),
        next_observations=batch.next_observations[final],
    )
    if not horizon.is_chunk:
        return over_steps, None
    kept = (spans == steps) | (batch.masks[final] == 0)
    if not kept.any():
        raise UserError(
            f"{dataset.source}: --action_chunk={steps}: its trajectories have up to {lengths.max()} steps"
        )
    offsets = np.arange(steps)
    rows = np.minimum(first[:, None] + offsets, dataset.size - 1)
    actions = batch.actions[rows].reshape(dataset.size, -1)
    valid = (offsets < spans[:, None]).astype(np.float32)
    return ChunkBatch(**{**over_steps._asdict(), "actions": actions, "valid": valid}), kept


def _with_next_actions(dataset: Dataset) -> tuple[SarsaBatch, np.ndarray]:
    """Gives every transition the action that the data's policy took next, in s'.

    A trajectory's last transition has none. If it is terminal, its mask hides whatever stands there; else it
    is left out. In D4RL's layout the row of a time-out has been dropped before, so such a trajectory loses
    two; other codes keep one.

    Returns:
        The batch, and bool[N], the transitions to keep.
    """
    batch, known = dataset.batch, ~dataset.ends | dataset.terminals
    if not known.any():
        raise UserError(
            f"{dataset.source}: every step is cut off by a time-out, but the method learns from sequences"
        )
    following = np.minimum(np.arange(dataset.size) + 1, dataset.size - 1)
    return SarsaBatch._make((*batch, batch.actions[following])), known


def _with_returns_to_go(dataset: Dataset, discount: float, endless: bool) -> CalibratedBatch:
    """Gives every transition its return-to-go, as `discounted_returns`."""
    _check_ends(dataset)
    batch = dataset.batch
    returns = discounted_returns(batch.rewards, batch.masks, dataset.ends, discount, endless)
    return CalibratedBatch._make((*batch, returns))


def discounted_returns(
    rewards: ArrayLike, masks: ArrayLike, ends: ArrayLike, discount: float, endless: bool
) -> np.ndarray:
    """Returns f32[N], the discounted returns from each transition of trajectories on, reward units.

    `ends` bool[N] marks each trajectory's last transition, the last of all included. If `endless`, the last
    reward of a trajectory that ends without a terminal goes on forever; else 0 follows.

    Source: nakamotoo/Cal-QL, branch dev/add-kitchen, JaxCQL/replay_buffer.py, lines 268 to 300.
    """
    rewards = np.asarray(rewards, np.float64)
    following = np.where(ends, endless * np.asarray(masks) * rewards / (1.0 - discount), 0.0)
    returns = rewards + discount * following
    for row in reversed(np.flatnonzero(~np.asarray(ends)).tolist()):
        returns[row] += discount * returns[row + 1]
    return returns.astype(np.float32)


def _trajectories(dataset: Dataset, length: int) -> Trajectories:
    """Gives every transition its return-to-go and its place in its trajectory, for windows of `length`."""
    _check_ends(dataset)
    last, lengths = np.flatnonzero(dataset.ends), dataset.trajectory_lengths()
    rows = np.arange(dataset.size)
    rewards = np.asarray(dataset.batch.rewards, np.float64)
    sums = np.cumsum(rewards)
    returns_to_go = (np.repeat(sums[last], lengths) - sums + rewards).astype(np.float32)
    timesteps = rows - np.repeat(last + 1 - lengths, lengths)
    return Trajectories(
        observations=dataset.batch.observations,
        actions=dataset.batch.actions,
        returns_to_go=returns_to_go,
        timesteps=timesteps.astype(np.int32),
        left=(np.repeat(last, lengths) - rows + 1).astype(np.int32),
        highest_return=returns_to_go[dataset.begins].max(),
        length=length,
    )


def _check_ends(dataset: Dataset) -> None:
    """Raises UserError if the data do not say where their only trajectory ends."""
    if dataset.ends.sum() == 1 and not (dataset.terminals[-1] or dataset.stated[-1]):
        raise UserError(
            f"{dataset.source}: all rows are one trajectory that does not end (no terminals, no timeouts), "
            "and the method learns from returns"
        )
