"""How much memory data take, computed from the headers of their files alone."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from xql_jax.data.cache import Column

FLOAT = 4  # bytes of a float32
# There are two copies of transitions while they are normalised, filtered, joined, or put on a CPU's "device".
COPIES = 2


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Bytes of memory that a source takes."""

    held: int  # its transitions, once they are read
    reading: int  # the most while it is read, including those


def of_columns(columns: Mapping[str, Column]) -> Footprint:
    """Returns the footprint of a file with these arrays, as the readers turn them into transitions."""
    entries = {key: math.prod(column.shape) for key, column in columns.items()}
    rows = entries.get("rewards", 0)
    converted = FLOAT * sum(entries[key] for key in columns if columns[key].dtype != np.float32)
    scratch = max((column.scratch for column in columns.values()), default=0)
    checked = max(entries.values(), default=0)  # one bool per entry, in the search for NaN and infinity
    as_stored = sum(column.num_bytes for column in columns.values()) + scratch
    held = held_bytes(entries.get("observations", 0), entries.get("actions", 0), rows)
    # Rows stay in memory beside the transitions made of them, and so do 64-bit numbers of the rows kept.
    made = 0 if "next_observations" in columns else held
    turned = FLOAT * sum(entries.values()) + made + 24 * rows
    return Footprint(held, max(as_stored + converted + checked, turned))


def held_bytes(observations: int, actions: int, rows: int) -> int:
    """Returns the bytes of transitions with these total numbers of entries; observations are stored twice."""
    return FLOAT * (2 * observations + actions + 2 * rows) + rows


def total(footprints: Sequence[Footprint]) -> int:
    """Returns the bytes of memory that it takes to read the sources, join them and train on them."""
    held = 0
    most = 0
    for footprint in footprints:
        most = max(most, held + footprint.reading)
        held += footprint.held
    return max(most, COPIES * held)
