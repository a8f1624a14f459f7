"""Episodes, and files of them in every format."""

import json
import shutil

import h5py
import minari
import minari.serialization
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from xql_jax.data.loading import load_dataset

KINDS = ("terminal", "timeout", "both", "unmarked")  # how an episode ends; unmarked for the last one alone
ALL = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
# By name, the arrays of a format; of a folder, those of one episode.
KEYS = {
    "rows.hdf5": ALL[:5],
    "rows.npz": ALL[:5],
    "transitions.npz": ALL,
    "masks.npz": ("observations", "actions", "rewards", "masks", "ends", "next_observations"),
    "episodes": ALL[:4],
    "ogbench.npz": (*ALL[:4], "masks"),
}


class Episode:
    """Observations f32[T + 1, 3], actions f32[T, 2], rewards f32[T], and how it ends."""

    def __init__(self, seed, length, kind):
        generator = np.random.default_rng(seed)
        self.observations = generator.normal(size=(length + 1, 3)).astype(np.float32)
        self.actions = generator.uniform(-1, 1, (length, 2)).astype(np.float32)
        self.rewards = generator.normal(size=length).astype(np.float32)
        self.length, self.kind = length, kind
        self.is_terminal = kind in ("terminal", "both")

    def __repr__(self):
        return f"{self.kind} after {self.length}"

    def arrays(self):
        """The arrays of its steps, by our names."""
        last = np.arange(self.length) == self.length - 1
        return {
            "observations": self.observations[:-1],
            "actions": self.actions,
            "rewards": self.rewards,
            "next_observations": self.observations[1:],
            "terminals": last & self.is_terminal,
            "masks": ~(last & self.is_terminal),
            "timeouts": last & (self.kind in ("timeout", "both")),
            "ends": last & (self.kind != "unmarked"),
        }


EPISODES = [Episode(0, 3, "timeout"), Episode(1, 2, "terminal"), Episode(2, 4, "timeout")]


def joined(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def arrays_of(name, episodes):
    """The arrays of a file in this format; for a folder, those of each episode."""
    parts = [episode.arrays() for episode in episodes]
    if name == "episodes":
        for part, episode in zip(parts, episodes, strict=True):
            part["observations"] = episode.observations
        return [{key: part[key] for key in KEYS[name]} for part in parts]
    if name == "ogbench.npz":  # a row for each observation; terminals mark the last, and masks the goals
        for part, episode in zip(parts, episodes, strict=True):
            part["observations"] = episode.observations
            part["actions"] = np.append(episode.actions, np.zeros((1, 2)), 0)
            part["rewards"] = np.append(episode.rewards, 0.0)
            part["terminals"] = np.arange(episode.length + 1) == episode.length
            part["masks"] = np.append(part["masks"], True)
    whole = joined(parts)
    return {key: whole[key] for key in KEYS[name]}


def write(path, arrays):
    """Writes arrays in the format of the path's name; a folder for a list of episodes. Returns the path."""
    if isinstance(arrays, list):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        for number, each in enumerate(arrays):
            np.savez(path / f"{number:03}.npz", **each)
    elif path.suffix.lower() in (".hdf5", ".h5"):
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array
    else:
        np.savez(path, **arrays)
    return path


def read(path, name=None):
    prefix = {"ogbench.npz": "ogbench:", "minari": "minari:"}.get(name or path.name, "")
    return load_dataset(None, [f"{prefix}{path}"])


def write_minari(folder, episodes, observations=None, space=None, action_space=None, name="made-v0"):
    """Writes a Minari dataset with its own library to $MINARI_DATASETS_PATH, which is `folder`."""
    buffers = []
    for number, episode in enumerate(episodes):
        arrays = episode.arrays()
        buffers.append(
            EpisodeBuffer(
                observations=observations[number] if observations else episode.observations,
                actions=arrays["actions"],
                rewards=arrays["rewards"].tolist(),
                terminations=arrays["terminals"].tolist(),
                truncations=arrays["timeouts"].tolist(),
            )
        )
    minari.create_dataset_from_buffers(
        name,
        buffers,
        observation_space=space or spaces.Box(-np.inf, np.inf, (3,), np.float32),
        action_space=spaces.Box(-1, 1, (2,), np.float32),
    )
    if action_space:  # which would not take these buffers
        file = folder / name / "data" / "metadata.json"
        changed = {"action_space": minari.serialization.serialize_space(action_space)}
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return folder / name
