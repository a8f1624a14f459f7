"""Reads Minari's datasets, by ID or by folder, from this machine's disk."""

import collections
import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import tqdm

from xql_jax.data.d4rl_hdf5 import opened, scratch
from xql_jax.data.dataset import Dataset, brief, checked_references
from xql_jax.data.episodes import episode, footprint_of_episodes, from_episodes
from xql_jax.data.footprint import Footprint, held_bytes
from xql_jax.data.hdf5_links import check_storage
from xql_jax.errors import UserError, nearest, needing
from xql_jax.tasks import References

if TYPE_CHECKING:
    from gymnasium import spaces

REFERENCES = ("ref_min_score", "ref_max_score")  # Minari's names of a random policy's and an expert's return
ARRAYS = "main_data.hdf5"  # where Minari keeps them, unless they are in Arrow's format


def read_minari(name: str) -> Dataset:
    """Reads the dataset with an ID such as `D4RL/door/human-v2`, or the one in a folder.

    Observations and actions must be vectors (`Box` with one axis). A `Dict` of such observations is
    concatenated in the order of its sorted keys.

    Nothing is downloaded: Minari's own command does that, and says how much it will be.
    Raises:
        UserError: if there is no such dataset, or its spaces or arrays are unfit.
    """
    folder = _data_folder(name)
    source = f"minari:{name}"
    with needing(source, "minari"):
        import minari
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of packages that only its environment needs
            stored = minari.MinariDataset(folder)
        observation_space, action_space = stored.observation_space, stored.action_space
        metadata = stored.storage.metadata
    except Exception as error:  # json, h5py, gymnasium and Minari itself have errors of their own
        raise UserError(f"{source}: Minari cannot open {folder}: {_said(error)}") from error
    _check_observations(observation_space, source)
    _check_vector(action_space, "the action space", source)

    episodes = []
    progress = tqdm.tqdm(stored.episode_indices, desc=f"reading {name}", unit="episode", disable=None)
    for index in progress:
        where = f"{source}, episode {index}"
        try:
            (read,) = stored.iterate_episodes([index])
            arrays = {
                "observations": _flat(read.observations),
                "actions": read.actions,
                "rewards": read.rewards,
                "terminals": read.terminations,
            }
        except Exception as error:
            raise UserError(f"{where}: cannot be read: {_said(error)}") from error
        episodes.append(episode(arrays, where))
    return dataclasses.replace(from_episodes(episodes, source), references=_references(metadata, source))


def _references(metadata: Mapping[str, Any], source: str) -> References | None:
    given: list[Any] = [metadata.get(name) for name in REFERENCES]
    if None in given:  # Minari sets neither, or both
        return None
    if not all(isinstance(value, int | float) for value in given):
        raise UserError(f"{source}: {' and '.join(REFERENCES)} must be numbers, not {given}")
    random_return, expert_return = map(float, given)
    return checked_references(random_return, expert_return, source)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {brief(error)}"


def footprint_of_minari(name: str, external_data: bool) -> Footprint:
    """Returns the memory that reading the dataset takes, without reading it.

    Raises:
        UserError: if there is no such dataset, it is damaged, or something in it lies in other files and
            `external_data` does not allow that.
    """
    path = _data_folder(name) / ARRAYS
    if not path.exists():  # then it has Arrow's files, which are not compressed
        size = sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
        return footprint_of_episodes([Footprint(2 * size, 0)])
    episodes: dict[str, _Episode] = collections.defaultdict(_Episode)
    with opened(path) as file:
        links: list[tuple[str, bool]] = []  # checked below: h5py does not tolerate exceptions in a callback
        file.visititems_links(lambda place, link: links.append((place, isinstance(link, h5py.HardLink))))
        for place, is_hard in links:
            member = file[place] if is_hard else None
            # An object with several names may stand for any number of episodes, but is listed only once.
            if not external_data and (member is None or h5py.h5o.get_info(member.id).rc > 1):
                raise UserError(
                    f"{path}: {brief(place)} is a link, as Minari makes none: --external_data follows it, if "
                    "you trust the file and what it links to"
                )
            if isinstance(member, h5py.Dataset):
                check_storage(member, place, external_data)
                number, _, inner = place.partition("/")
                episodes[number].add(inner.split("/")[0], member)
    return footprint_of_episodes([found.footprint() for found in episodes.values()])


class _Episode:
    """The sizes of what Minari reads at once for an episode, by the name of the part."""

    def __init__(self) -> None:
        self.entries: collections.Counter[str] = collections.Counter()
        self.read = 0  # bytes

    def add(self, part: str, member: h5py.Dataset) -> None:
        self.entries[part] += member.size or 0
        self.read += member.nbytes + scratch(member)

    def footprint(self) -> Footprint:
        sizes = (self.entries[part] for part in ("observations", "actions", "rewards"))
        return Footprint(held_bytes(*sizes), self.read)


def datasets_folder() -> Path:
    """Returns Minari's own folder, `$MINARI_DATASETS_PATH`, else `~/.minari/datasets`."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()


def _data_folder(name: str) -> Path:
    """Returns the folder with Minari's metadata.json and arrays."""
    root = datasets_folder()
    places = [Path(name).expanduser(), root / name]
    for place in places:
        for folder in (place, place / "data"):
            if (folder / "metadata.json").is_file():
                return folder
    if places[0].is_dir():
        raise UserError(f"minari:{name}: the directory is no Minari dataset, it has no data/metadata.json")
    known = [
        str(found.parents[1].relative_to(root))
        for pattern in ("*/data", "*/*/data", "*/*/*/data")
        for found in root.glob(f"{pattern}/metadata.json")
    ]
    here = f"nearest there: {nearest(name, known)}" if known else "there is none yet"
    raise UserError(
        f"minari:{name}: no such dataset in {root} ({here}); `minari download {name}` fetches it, "
        "`minari list remote` names all (MINARI_DATASETS_PATH names another folder)"
    )


def _check_observations(space: "spaces.Space", source: str) -> None:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        for key, part in space.items():
            _check_vector(part, f"the observation space at {key!r}", source)
    else:
        _check_vector(space, "the observation space", source)


def _check_vector(space: "spaces.Space", what: str, source: str) -> None:
    from gymnasium import spaces

    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise UserError(f"{source}: {what} is {space}; only vectors (a Box with one axis) can be trained on")


def _flat(observations: Any) -> np.ndarray:
    if isinstance(observations, dict):
        return np.concatenate([np.asarray(observations[key]) for key in sorted(observations)], axis=-1)
    return observations
