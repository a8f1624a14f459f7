"""Turns a dataset into the kind of batches that a learner asks for by its `batch_type`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.data.windows import WindowedDataset, in_windows
from xql_jax.errors import UserError
from xql_jax.types import Batch, SarsaBatch, Windows


def with_next_actions(dataset: Dataset) -> Dataset:
    """Gives every transition the action that the data's policy took next, in s'.

    A trajectory's last transition has no next action. If it is terminal, its mask hides whatever stands
    there. If it is a time-out or a jump in the data, it is left out. In D4RL's layout the row of a time-out
    has been dropped before, as by D4RL's own loader, so such a trajectory loses two; other codes keep one.
    Raises:
        UserError: if more than half of the transitions would be left out.
    """
    batch = dataset.batch
    known = ~dataset.ends | (np.asarray(batch.masks) == 0)
    if 2 * np.count_nonzero(known) < dataset.size:
        raise UserError(
            f"{dataset.source}: {np.count_nonzero(~known):,} of {dataset.size:,} transitions do not "
            "lead to the next row's observation, so the next action, which the algorithm needs, is unknown: "
            "are the rows shuffled? Give them in the order in which they were recorded"
        )
    following = np.minimum(np.arange(dataset.size) + 1, dataset.size - 1)
    fields: tuple[Any, ...] = (*batch, np.asarray(batch.actions)[following])
    # A trajectory that loses its last row ends one row earlier.
    ends = dataset.ends | np.append(~known[1:], False)
    kept = dataclasses.replace(dataset, batch=SarsaBatch(*fields), ends=ends)
    return dataclasses.replace(kept, batch=kept.take(np.flatnonzero(known)), ends=ends[known])


VIEWS: dict[type, Callable[..., Dataset | WindowedDataset]] = {
    Batch: lambda dataset: dataset,
    SarsaBatch: with_next_actions,
    Windows: in_windows,
}


def view_for(learner: Any, dataset: Dataset) -> Dataset | WindowedDataset:
    """Returns the dataset in the form of the learner's `batch_type`; windows have its `context_length`."""
    view = VIEWS[learner.batch_type]
    return view(dataset, learner.context_length) if learner.batch_type is Windows else view(dataset)
