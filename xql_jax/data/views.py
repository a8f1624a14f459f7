"""The kinds of batches that learners ask for by their `batch_type`, and how a dataset becomes each."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.data.mapped import MappedDataset
from xql_jax.data.windows import WindowedDataset, in_windows
from xql_jax.errors import UserError
from xql_jax.types import Batch, SarsaBatch, Windows

AnyDataset = Dataset | MappedDataset


def with_next_actions(dataset: AnyDataset) -> Dataset:
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


VIEWS: dict[type, Callable[..., AnyDataset | WindowedDataset]] = {
    Batch: lambda dataset: dataset,
    SarsaBatch: with_next_actions,
    Windows: in_windows,
}


def view_for(learner: Any, dataset: AnyDataset) -> AnyDataset | WindowedDataset:
    """Returns the dataset as the learner asks for it by its `batch_type`, windows of its `context_length`."""
    view = VIEWS[learner.batch_type]
    return view(dataset, learner.context_length) if learner.batch_type is Windows else view(dataset)
