"""Reads data that are stored episode by episode: folders of `.npz` files, and Minari's datasets."""

import dataclasses
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from xql_jax.data.dataset import Dataset, checked_references, from_transitions, joined
from xql_jax.data.readers import (
    UNITS,
    brief,
    check_memory,
    check_names,
    opened,
    read_archive,
    says_normalized,
    validated,
)
from xql_jax.errors import UserError, nearest, needing

KEYS = ("observations", "actions", "rewards")
TERMINAL_KEYS = ("terminals", "terminations", "terminated")  # an episode's file may hold one of them
MINARI_REFERENCES = ("ref_min_score", "ref_max_score")  # returns of a random policy and of an expert


def read_npz_folder(folder: Path) -> Dataset:
    """Reads every `.npz` in the folder, sorted by name, as an episode.

    Each file holds observations [T + 1, O] or [T, O], actions [T, A], rewards [T] and, if the episode ends in
    a terminal state, `terminals` (or `terminations`, `terminated`): [T], or one value for the last step.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".npz" and path.is_file())
    if not paths:
        raise UserError(f"{folder}: no .npz file in this directory; if it is Minari's, give minari:{folder}")
    check_memory(sum(path.stat().st_size for path in paths), str(folder))
    files = tqdm.tqdm(paths, desc=f"reading {folder.name}", unit="episode", disable=None)
    return _in_turn((_read_npz_episode(path) for path in files), str(folder))


def _read_npz_episode(path: Path) -> Dataset | None:
    arrays, names = read_archive(path, (*KEYS, *TERMINAL_KEYS, UNITS))
    check_names(names, KEYS, str(path))
    normalized = says_normalized(arrays.pop(UNITS, None), str(path))
    given = [arrays.pop(key) for key in TERMINAL_KEYS if key in arrays]
    if len(given) > 1:
        raise UserError(f"{path}: terminal states are given more than once: by {' and '.join(TERMINAL_KEYS)}")
    terminals = given[0] if given else np.zeros(())
    if terminals.size == 1 and arrays["rewards"].ndim:  # one value, for the last step
        steps = len(arrays["rewards"])
        terminals = np.where(np.arange(steps) == steps - 1, terminals.reshape(()), 0)
    episode = _episode({**arrays, "terminals": terminals}, str(path))
    return episode and dataclasses.replace(episode, is_normalized=normalized)


def read_minari(name: str) -> Dataset:
    """Reads the dataset with an ID such as `D4RL/door/human-v2`, or the one in a folder.

    Observations and actions must be vectors (`Box` with one axis). A `Dict` of such observations is
    concatenated in the order of its sorted keys.

    Nothing is downloaded: Minari's own command does that, and says how much it will be.
    """
    folder, source = _minari_folder(name), f"minari:{name}"
    with needing(source, "minari"):
        import minari
        from gymnasium import spaces
    check_memory(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), source)
    if (folder / "main_data.hdf5").exists():  # else it has Arrow's files
        with opened(folder / "main_data.hdf5"):
            pass  # it checks that there are no links
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of packages that only its environment needs
            stored = minari.MinariDataset(folder)
        actions, metadata = stored.action_space, stored.storage.metadata
    except Exception as error:  # json, h5py, gymnasium and Minari itself have errors of their own
        raise UserError(f"{source}: Minari cannot open {folder}: {brief(repr(error))}") from error
    if not isinstance(actions, spaces.Box) or len(actions.shape) != 1:
        raise UserError(f"{source}: the action space is {actions}; only vectors can be trained on")

    def episodes() -> Iterator[Dataset | None]:
        for index in tqdm.tqdm(stored.episode_indices, desc=f"reading {name}", unit="episode", disable=None):
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
                raise UserError(f"{where}: cannot be read: {brief(repr(error))}") from error
            yield _episode(arrays, where)

    given = [metadata.get(key) for key in MINARI_REFERENCES]
    return dataclasses.replace(
        _in_turn(episodes(), source),
        references=checked_references(given, source),
        is_normalized=says_normalized(metadata.get(UNITS), source, is_collected="command" in metadata),
    )


def _minari_folder(name: str) -> Path:
    """Returns the folder with Minari's metadata.json and arrays."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()
    for place in (Path(name).expanduser(), root / name):
        for folder in (place, place / "data"):
            if (folder / "metadata.json").is_file():
                return folder
    known = [str(found.parents[1].relative_to(root)) for found in root.glob("**/data/metadata.json")]
    here = f"nearest there: {nearest(name, known)}" if known else "there is none yet"
    raise UserError(
        f"minari:{name}: no such dataset in {root} ({here}); `minari download {name}` fetches it, "
        "`minari list remote` names all (MINARI_DATASETS_PATH names another folder)"
    )


def _flat(observations: Any) -> np.ndarray:
    if isinstance(observations, dict):
        return np.concatenate([np.asarray(observations[key]) for key in sorted(observations)], axis=-1)
    return observations


def _episode(arrays: Mapping[str, Any], source: str) -> Dataset | None:
    """Returns the transitions of an episode of T steps, checked; None if there are none.

    With T observations, not T + 1, the last step has no next observation. It is kept if it is terminal,
    because its mask hides that.
    """
    steps = {key: np.asarray(array) for key, array in arrays.items()}
    observations = following = steps["observations"]
    length = len(steps["actions"]) if steps["actions"].ndim else 0
    has_last = observations.ndim > 0 and len(observations) == length + 1
    if has_last:
        steps["observations"], following = observations[:-1], observations[1:]
    elif observations.ndim:  # any length but T is refused by `validated`
        following = np.concatenate([observations[1:], observations[-1:]])
    checked = validated({**steps, "next_observations": following}, source, min_rows=1)
    count = length if has_last or checked["terminals"][-1] != 0 else length - 1
    if count == 0:
        return None
    return from_transitions({key: array[:count] for key, array in checked.items()}, source)


def _in_turn(episodes: Iterable[Dataset | None], source: str) -> Dataset:
    """Joins the episodes in their order; UserError if there is no transition, or their sizes differ."""
    parts = [episode for episode in episodes if episode]
    if not parts:
        raise UserError(f"{source}: no transition in it")
    return dataclasses.replace(joined(parts), source=source)
