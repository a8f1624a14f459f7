"""Turns a dataset into the kind of batches that a learner asks for by its `batch_type`."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.data.dataset import Dataset, known_successors
from xql_jax.data.sampling import Trajectories
from xql_jax.errors import UserError
from xql_jax.types import ONE_STEP, Batch, CalibratedBatch, ChunkBatch, Horizon, SarsaBatch, Windows

SEQUENCES = "the method learns from sequences"


def with_next_actions(dataset: Dataset) -> Dataset:
    """Gives every transition the action that the data's policy took next, in s'.

    A trajectory's last transition has none. If it is terminal, its mask hides whatever stands there; else it
    is left out. In D4RL's layout the row of a time-out has been dropped before, so such a trajectory loses
    two; other codes keep one.
    """
    batch, known = dataset.batch, known_successors(dataset, SEQUENCES)
    if not known.any():
        raise UserError(f"{dataset.source}: every step is cut off by a time-out, but {SEQUENCES}")
    following = np.minimum(np.arange(dataset.size) + 1, dataset.size - 1)
    # A trajectory that loses its last row ends one row earlier.
    ends = dataset.ends | np.append(~known[1:], False)
    with_next = SarsaBatch._make((*batch, batch.actions[following]))
    return dataclasses.replace(dataset, batch=with_next, ends=ends).part(np.flatnonzero(known))


def with_returns_to_go(dataset: Dataset, discount: float, endless: bool) -> Dataset:
    """Gives every transition its return-to-go, as `discounted_returns`."""
    _trajectories(dataset)
    batch = dataset.batch
    returns = discounted_returns(batch.rewards, batch.masks, dataset.ends, discount, endless)
    return dataclasses.replace(dataset, batch=CalibratedBatch._make((*batch, returns)))


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


def over_horizon(dataset: Dataset, horizon: Horizon, discount: float) -> Dataset:
    """Gives every transition the horizon's reward, mask, next observation and, for chunks, actions.

    A trajectory's end cuts a transition short. After a time-out V of the last known state follows.
    """
    batch, steps = dataset.batch, horizon.steps
    known_successors(dataset, SEQUENCES)
    first = np.arange(dataset.size)
    last = np.repeat(np.flatnonzero(dataset.ends), dataset.trajectory_lengths())
    spans = np.minimum(last - first + 1, steps)
    final = first + spans - 1
    rewards = np.zeros(dataset.size)
    for step in range(steps):
        rows = np.flatnonzero(step < spans)
        rewards[rows] += discount**step * batch.rewards[rows + step]
    masks = batch.masks[final] * discount ** (spans - 1.0)
    view = batch._replace(
        rewards=rewards.astype(np.float32),
        masks=masks.astype(np.float32),
        next_observations=batch.next_observations[final],
    )
    over_steps = dataclasses.replace(dataset, batch=view)
    if not horizon.is_chunk:
        return over_steps
    return _in_chunks(over_steps, spans, np.flatnonzero((spans == steps) | (batch.masks[final] == 0)), steps)


def _in_chunks(dataset: Dataset, spans: np.ndarray, kept: np.ndarray, length: int) -> Dataset:
    """Gives transitions that span i64[N] steps their chunks of actions, of this length, in the rows kept.

    Chunks that a time-out cuts are left out, because they were not carried out to their end. After a terminal
    a chunk holds whatever actions follow in the data, and its `valid` is 0 there. UserError if none is left.
    """
    if not len(kept):
        longest = dataset.trajectory_lengths().max()
        raise UserError(
            f"{dataset.source}: --action_chunk={length}: its trajectories have up to {longest} steps"
        )
    rows = np.minimum(kept[:, None] + np.arange(length), dataset.size - 1)
    actions = dataset.batch.actions[rows].reshape(len(kept), -1)
    valid = np.arange(length) < spans[kept, None]
    part = dataset.part(kept)
    batch = ChunkBatch(**{**part.batch._asdict(), "actions": actions, "valid": valid.astype(np.float32)})
    trajectories = np.repeat(np.arange(dataset.ends.sum()), dataset.trajectory_lengths())[kept]
    ends = np.append(trajectories[1:] != trajectories[:-1], True)
    return dataclasses.replace(part, batch=batch, ends=ends)


def in_windows(dataset: Dataset, length: int) -> Dataset:
    """Gives every transition its return-to-go and its place in its trajectory, for windows of `length`."""
    last, lengths = _trajectories(dataset)
    rows = np.arange(dataset.size)
    rewards = np.asarray(dataset.batch.rewards, np.float64)
    sums = np.cumsum(rewards)
    returns_to_go = (np.repeat(sums[last], lengths) - sums + rewards).astype(np.float32)
    timesteps = rows - np.repeat(last + 1 - lengths, lengths)
    trajectories = Trajectories(
        observations=dataset.batch.observations,
        actions=dataset.batch.actions,
        returns_to_go=returns_to_go,
        timesteps=timesteps.astype(np.int32),
        left=(np.repeat(last, lengths) - rows + 1).astype(np.int32),
        highest_return=returns_to_go[dataset.begins].max(),
        length=length,
    )
    return dataclasses.replace(dataset, batch=trajectories)


def _trajectories(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the last rows of the trajectories and their lengths; UserError if they are not known."""
    known_successors(dataset, SEQUENCES)
    last, lengths = np.flatnonzero(dataset.ends), dataset.trajectory_lengths()
    if len(last) == 1 and not (dataset.terminals[-1] or dataset.stated[-1]):
        raise UserError(
            f"{dataset.source}: all rows are one trajectory that does not end (no terminals, no timeouts), "
            "and the method learns from returns"
        )
    return last, lengths


def view_for(learner: Any, dataset: Dataset, horizon: Horizon = ONE_STEP) -> Dataset:
    """Returns the dataset in the form of the learner's `batch_type`, over the horizon if it is a `Batch`."""
    kind = learner.batch_type
    if kind is Batch:
        discount = getattr(learner, "discount", 1.0)  # cloning has none
        return dataset if horizon.steps == 1 else over_horizon(dataset, horizon, discount)
    if kind is SarsaBatch:
        return with_next_actions(dataset)
    if kind is CalibratedBatch:
        return with_returns_to_go(dataset, learner.discount, learner.endless)
    if kind is Windows:
        return in_windows(dataset, learner.context_length)
    raise TypeError(f"no view gives a dataset the form of {kind}")
