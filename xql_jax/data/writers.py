"""Writers of datasets: HDF5 in D4RL's layout, and Minari's folders. The same rows give the same bytes."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium import spaces

from xql_jax.data.d4rl_hdf5 import opened
from xql_jax.data.episodes import MINARI_REFERENCES
from xql_jax.data.rows import Rows, ends_of
from xql_jax.errors import needing
from xql_jax.tasks import References

# Facts about a dataset: text, numbers, or lists of either.
Metadata = Mapping[str, Any]


def write_hdf5(path: Path, rows: Rows, metadata: Metadata) -> None:
    """Writes rows in D4RL's layout; metadata go under `metadata/`, one scalar or list per name."""
    with h5py.File(path, "w") as file:
        for key, array in rows.items():
            file.create_dataset(key, data=array, track_times=False)  # times would change the bytes
        for key, value in metadata.items():
            is_text = isinstance(value, list) and value and isinstance(value[0], str)
            kind = h5py.string_dtype() if is_text else None
            file.create_dataset(f"metadata/{key}", data=value, dtype=kind, track_times=False)


def read_rows(path: Path) -> tuple[Rows, dict[str, Any]]:
    """Returns what `write_hdf5` wrote; UserError if the file cannot be read."""
    rows: Rows = {}
    metadata: dict[str, Any] = {}

    def add(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset):
            is_text = h5py.check_string_dtype(member.dtype)
            values = (member.asstr() if is_text else member)[()]
            if name.startswith("metadata/"):
                metadata[name.removeprefix("metadata/")] = (
                    values if is_text and member.shape == () else values.tolist()
                )
            else:
                rows[name] = values

    with opened(path) as file:
        file.visititems(add)
    return rows, metadata


def write_minari(folder: Path, name: str, rows: Rows, metadata: Metadata) -> None:
    """Writes a Minari dataset to FOLDER/data/, with one of its episodes for each episode of the rows.

    Args:
        folder: an empty one.
        name: from which the dataset's ID is made, because Minari requires one.
        metadata: is added to Minari's own; `References` get Minari's names.
    """
    with needing("--format=minari", "minari"):
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage

    observation_dim, action_dim = rows["observations"].shape[1], rows["actions"].shape[1]
    storage = MinariStorage.new(
        folder.absolute() / "data",  # with a relative name it would not find its own files
        spaces.Box(-np.inf, np.inf, (observation_dim,), np.float32),
        spaces.Box(-1.0, 1.0, (action_dim,), np.float32),
    )
    stops = np.flatnonzero(ends_of(rows)) + 1
    storage.update_episodes(
        EpisodeBuffer(
            id=number,
            observations=np.append(
                rows["observations"][start:stop], rows["next_observations"][stop - 1 : stop], 0
            ),
            actions=rows["actions"][start:stop],
            rewards=rows["rewards"][start:stop],
            terminations=rows["terminals"][start:stop],
            truncations=rows["timeouts"][start:stop],
        )
        for number, (start, stop) in enumerate(zip([0, *stops[:-1]], stops, strict=True))
    )
    names = dict(zip(References._fields, MINARI_REFERENCES, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings that authors and the like are missing
        storage.update_metadata(
            {
                "dataset_id": f"{re.sub('[^A-Za-z0-9_-]', '-', name)}-v0",
                "minari_version": minari.__version__,
                **{names.get(key, key): value for key, value in metadata.items()},
            }
        )
