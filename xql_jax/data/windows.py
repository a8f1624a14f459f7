"""Windows of trajectories, for learners of sequences; they are cut from the rows when they are drawn."""

from typing import Any

import flax.struct
import numpy as np

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
