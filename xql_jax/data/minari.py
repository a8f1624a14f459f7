"""Minari's datasets, by ID or by folder, as they lie on this machine."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tqdm

from xql_jax.data.dataset import Dataset
from xql_jax.data.episodes import episode, from_episodes
from xql_jax.errors import UserError, nearest

if TYPE_CHECKING:
    from gymnasium import spaces


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
    import minari

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that only its environment needs
            stored = minari.MinariDataset(folder)
        observation_space, action_space = stored.observation_space, stored.action_space
    except Exception as error:  # json, h5py, gymnasium and Minari itself, each with its own
        raise UserError(f"{source}: Minari cannot open {folder}: {type(error).__name__}: {error}") from error
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
            raise UserError(f"{where}: cannot be read: {type(error).__name__}: {error}") from error
        episodes.append(episode(arrays, where))
    return from_episodes(episodes, source)


def _data_folder(name: str) -> Path:
    """The folder with Minari's metadata.json and arrays."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()
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
