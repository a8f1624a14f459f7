"""The assignment of a population's members to devices.

Members (one per seed and hyperparameter setting) never exchange data, so any device can train any member.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

AXIS = "population"

T = TypeVar("T")


def population_mesh(num_members: int) -> Mesh:
    """Returns a mesh of the fewest devices of this process on which the members finish soonest.

    On 4 devices, 7 members use all 4 (two members per device, one on the last). 5 members use only 3 (two,
    two and one), because a fourth device would not make the run finish earlier.
    """
    devices = jax.local_devices()
    each = -(-num_members // len(devices))  # members on the fullest device
    return Mesh(np.array(devices[: -(-num_members // each)]), (AXIS,))


def padded(members: Sequence[T], mesh: Mesh) -> list[T]:
    """Returns the members followed by copies of the last one, so that every device has equally many.

    The results of the copies are never used. Every device has at least one member that is not a copy.
    """
    return [*members, *[members[-1]] * (-len(members) % mesh.size)]
