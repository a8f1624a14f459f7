"""Windows of trajectories, for learners of sequences; they are cut from the rows when they are drawn."""

import dataclasses
from typing import Any

import flax.struct
import numpy as np

from xql_jax.data.dataset import Dataset, fingerprint
from xql_jax.errors import UserError
from xql_jax.pytrees import Distinct
from xql_jax.types import Array, Windows


@flax.struct.dataclass
class Trajectories(Distinct):
    """The transitions of trajectories in order, each the start of a window; every row is stored once.

    Drawing rows uniformly draws trajectories in proportion to their length, and uniform starts within them.
    """

    observations: Array  # f32[N, O], NumPy's on the host
    actions: Array  # f32[N, A]
    returns_to_go: Array  # f32[N], reward units
    timesteps: Array  # i32[N], rows of the trajectory before this one
    left: Array  # i32[N], rows of the trajectory from this one on, itself included
    highest_return: Array  # f32[], of a trajectory
    length: int = flax.struct.field(pytree_node=False, default=1)  # K of the windows

    def windows(self, starts: Any) -> Windows:
        """Returns windows of K = `length` rows that start at rows `starts`, i32[B].

        If the trajectory ends earlier, the window is padded with zeros at its start, where its `known` is
        false. The result is of NumPy or JAX, like this object's arrays.
        """

        def take(field: Any, rows: Any) -> Any:
            return field.take(rows, axis=0, mode="clip")

        padding = self.length - take(self.left, starts).clip(max=self.length)
        offsets = np.arange(self.length, dtype=np.int32) - padding[:, None]
        known = offsets >= 0
        rows = starts[:, None] + offsets * known
        return Windows(
            take(self.observations, rows) * known[..., None],
            take(self.actions, rows) * known[..., None],
            take(self.returns_to_go, rows) * known,
            take(self.timesteps, rows) * known,
            known,
            self.highest_return.repeat(len(starts)),
        )


@dataclasses.dataclass(frozen=True)
class WindowedDataset:
    """A dataset in memory from which windows are drawn; its size does not depend on their length."""

    batch: Trajectories  # NumPy
    source: str

    @property
    def size(self) -> int:
        """N, the number of windows: one starts at each transition."""
        return len(self.batch.timesteps)

    @property
    def observation_dim(self) -> int:
        return self.batch.observations.shape[1]

    @property
    def action_dim(self) -> int:
        return self.batch.actions.shape[1]

    def take(self, indices: np.ndarray) -> Windows:
        """Returns windows i64[K], each below N, in that order."""
        return self.batch.windows(indices)

    def fingerprint(self) -> str:
        """Returns a digest of the data that does not depend on the windows' length."""
        return fingerprint(WindowedDataset(dataclasses.replace(self.batch, length=1), self.source))


def in_windows(dataset: Dataset, length: int) -> WindowedDataset:
    """Gives every transition its return-to-go and its place in its trajectory, for windows of `length`.

    Raises:
        UserError: if the data do not tell where trajectories end.
    """
    last = np.flatnonzero(dataset.ends)
    lengths = np.diff(last, prepend=-1)
    if lengths.max() == 1:
        raise UserError(
            f"{dataset.source}: no two rows belong to one trajectory, but the algorithm learns from sequences"
        )
    if len(last) == 1 and dataset.batch.masks[-1] != 0:
        raise UserError(
            f"{dataset.source}: all rows are one trajectory that does not end (no terminals, no timeouts), "
            "and the algorithm learns from returns"
        )
    rows = np.arange(dataset.size)
    rewards = np.asarray(dataset.batch.rewards, np.float64)
    sums = np.cumsum(rewards)
    returns_to_go = (np.repeat(sums[last], lengths) - sums + rewards).astype(np.float32)
    timesteps = rows - np.repeat(last + 1 - lengths, lengths)
    arrays: dict[str, Any] = {
        "observations": dataset.batch.observations,
        "actions": dataset.batch.actions,
        "returns_to_go": returns_to_go,
        "timesteps": timesteps.astype(np.int32),
        "left": (np.repeat(last, lengths) - rows + 1).astype(np.int32),
        "highest_return": returns_to_go[timesteps == 0].max(),
    }
    return WindowedDataset(Trajectories(**arrays, length=length), dataset.source)
