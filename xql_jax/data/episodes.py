"""Reads data stored episode by episode: folders of `.npz` files, and Minari's datasets."""

import dataclasses
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from gymnasium import spaces

from xql_jax.data.arrays import Layout, from_arrays
from xql_jax.data.dataset import Dataset, Note, checked_references, joined
from xql_jax.data.memory import check_memory
from xql_jax.data.names import RECIPES, shown
from xql_jax.data.readers import read_npz, reading
from xql_jax.errors import UserError, nearest, needing
from xql_jax.files.paths import located
from xql_jax.types import Json

ONE_EPISODE = Layout(is_episode=True)
DATA_SUFFIXES = (
    "npz",
    "npy",
    "hdf5",
    "h5",
    "pkl",
    "pickle",
    "parquet",
    "csv",
    "zarr",
    "tfrecord",
    "pt",
    "mat",
)
MINARI_REFERENCES = ("ref_min_score", "ref_max_score")  # returns of a random policy and of an expert


def read_npz_folder(folder: Path, layout: Layout) -> Dataset:
    """Reads every `.npz` in the folder, sorted by name, as an episode; a note names what else is there."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    paths = [path for path in entries if path.suffix.lower() == ".npz"]
    others = [path for path in entries if path not in paths]
    if not paths:
        raise UserError(f"{folder}: no .npz file in this directory; {_what_else(folder, others)}")
    check_memory(sum(path.stat().st_size for path in paths if path.is_file()), str(folder))
    files = tqdm.tqdm(paths, desc=f"reading {folder.name}", unit="episode", disable=None)
    episodes = [read_npz(path, dataclasses.replace(layout, is_episode=True)) for path in files]
    dataset = dataclasses.replace(joined(episodes), source=str(folder), parts=())
    if others:
        text = f"only the .npz files in this folder are episodes; not read: {_listed(others)}"
        note = Note(text, is_suspicion=any(map(_may_be_episodes, others)))
        dataset = dataclasses.replace(dataset, notes=(*dataset.notes, note))
    return dataset


def _what_else(folder: Path, others: Sequence[Path]) -> str:
    """Returns what a folder without episodes may be."""
    if (folder / "meta" / "info.json").exists() or any(folder.rglob("*.parquet")):
        return f"if it is LeRobot's, {RECIPES!r} has lines that make such files of it"
    if inner := [path for path in others if path.is_dir() and any(path.rglob("*.npz"))]:
        return f"there are some in {_listed(inner)}: give each of these folders as a source of its own"
    if any(folder.rglob("metadata.json")):
        return f"if it is Minari's, give minari:{folder}"
    return f"there are {_listed(others) or 'none'}; {RECIPES!r} has lines that make such files of others"


def _may_be_episodes(path: Path) -> bool:
    if path.is_dir():
        return any(map(_may_be_episodes, path.iterdir()))
    return path.name.partition(".")[2].lower().startswith(DATA_SUFFIXES)


def _listed(paths: Sequence[Path]) -> str:
    return shown([path.name + "/" * path.is_dir() for path in paths])


def read_minari(name: str) -> Dataset:
    """Reads the dataset with an ID such as `D4RL/door/human-v2`, or the one in a folder; downloads nothing.

    Observations are vectors as `gymnasium.spaces.flatten` makes them, in the order of the stored space: the
    same that `gymnasium.wrappers.FlattenObservation` shows a policy. Actions must be vectors.
    """
    folder, source = _minari_folder(name), f"minari:{name}"
    with needing(source, "minari"):
        import minari
    check_memory(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), source)
    facts = folder / "metadata.json"
    with reading(facts, "Minari dataset"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of packages that only its environment needs
            stored = minari.MinariDataset(folder)
        actions, metadata = stored.action_space, stored.storage.metadata
        observed = _as_stored(json.loads(json.loads(facts.read_bytes())["observation_space"]))
    if not isinstance(actions, spaces.Box) or len(actions.shape) != 1:
        raise UserError(f"{source}: the action space is {actions}; only vectors can be trained on")
    if not observed.is_np_flattenable:
        raise UserError(f"{source}: the observation space is {observed}, which cannot be one vector")
    if not len(stored.episode_indices):
        raise UserError(f"{source}: it has no episode")
    episodes = []
    for index in tqdm.tqdm(stored.episode_indices, desc=f"reading {name}", unit="episode", disable=None):
        what = f"{source}, episode {index}"
        with reading(facts, what):
            (read,) = stored.iterate_episodes([index])
            arrays = {
                "observations": _flat(observed, read.observations),
                "actions": read.actions,
                "rewards": read.rewards,
                "terminals": read.terminations,
                "timeouts": read.truncations,
            }
        episodes.append(from_arrays(arrays, what, ONE_EPISODE))
    references = checked_references([metadata.get(key) for key in MINARI_REFERENCES], source)
    return dataclasses.replace(joined(episodes), source=source, references=references, parts=())


def _minari_folder(name: str) -> Path:
    """Returns the folder with Minari's metadata.json and arrays."""
    root = located(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets")
    for place in (located(name), root / name):
        for folder in (place, place / "data"):
            if (folder / "metadata.json").is_file():
                return folder
    known = [str(file.parents[1].relative_to(root)) for file in root.glob("**/data/metadata.json")]
    here = f"nearest there: {nearest(name, known)}" if known else "there is none yet"
    raise UserError(
        f"minari:{name}: no such dataset in {root} ({here}); `minari download {name}` fetches it, "
        "`minari list remote` names all (MINARI_DATASETS_PATH names another folder)"
    )


def _as_stored(described: Json) -> spaces.Space:
    """Returns the space of Minari's JSON with its entries in their order; Minari itself sorts them."""
    from minari.serialization import deserialize_space

    if described["type"] == "Dict":
        return spaces.Dict([(name, _as_stored(part)) for name, part in described["subspaces"].items()])
    if described["type"] == "Tuple":
        return spaces.Tuple([_as_stored(part) for part in described["subspaces"]])
    return deserialize_space(described)


def _flat(space: spaces.Space, seen: Any) -> np.ndarray:
    """Returns T values of a space, stored by its parts, as vectors [T, O]: those of `spaces.flatten`."""
    if isinstance(space, spaces.Dict):
        return np.concatenate([_flat(part, seen[name]) for name, part in space.items()], axis=-1)
    if isinstance(space, spaces.Tuple):
        return np.concatenate([_flat(part, each) for part, each in zip(space, seen, strict=True)], axis=-1)
    if isinstance(space, spaces.Box):
        return np.reshape(seen, (len(seen), -1))
    return np.stack([np.asarray(spaces.flatten(space, each)) for each in seen])
