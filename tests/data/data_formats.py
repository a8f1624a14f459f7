"""The same episodes, written in every format that can be read, and what a reader must make of them."""

import json
import shutil
from dataclasses import dataclass

import h5py
import minari
import minari.serialization
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

ALL = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
# By name, the arrays of a format; of a folder and of Minari, those of one episode.
KEYS = {
    "rows.hdf5": ALL[:5],
    "rows.npz": ALL[:5],
    "rows_with_ends.npz": (*ALL[:4], "ends"),
    "transitions.npz": ALL,
    "masks.npz": ("observations", "actions", "rewards", "masks", "ends", "next_observations"),
    "episodes": ALL[:4],
    "ogbench.npz": (*ALL[:4], "masks"),
    "minari": ALL[:3],
}
OPTIONAL = ("timeouts", "ends", "next_observations", "masks")


@dataclass(frozen=True)
class Episode:
    observations: np.ndarray  # f64[T + 1, 3]
    actions: np.ndarray  # f64[T, 2]
    rewards: np.ndarray  # f64[T]
    is_terminal: bool

    def steps(self):
        """The arrays of T steps, with all keys of `ALL`."""
        last = np.arange(len(self.rewards)) == len(self.rewards) - 1
        return {
            "observations": self.observations[:-1],
            "actions": self.actions,
            "rewards": self.rewards,
            "terminals": last & self.is_terminal,
            "timeouts": last & (not self.is_terminal),
            "next_observations": self.observations[1:],
        }


def make_episode(seed, length, is_terminal):
    generator = np.random.default_rng(seed)
    actions = generator.uniform(-1, 1, (length, 2))
    return Episode(
        generator.normal(size=(length + 1, 3)), actions, generator.normal(size=length), is_terminal
    )


def joined(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def expected(name, episodes):
    """What a reader makes of them: fields by name, and the ends of trajectories."""
    parts = [episode.steps() for episode in episodes]
    if name.startswith("rows"):  # D4RL's layout: no time-outs, and of HDF5 not the last row
        parts = [{key: array[~part["timeouts"]] for key, array in part.items()} for part in parts]
        if name == "rows.hdf5" and episodes[-1].is_terminal:
            parts[-1] = {key: array[:-1] for key, array in parts[-1].items()}
    rows = joined(parts)
    ends = np.concatenate([np.arange(len(part["rewards"])) == len(part["rewards"]) - 1 for part in parts])
    rows["masks"] = ~rows.pop("terminals")
    del rows["timeouts"]
    return rows, ends


def arrays_of(name, episodes):
    """The arrays of a file in this format; for a folder, those of each episode."""
    parts = [episode.steps() for episode in episodes]
    if name == "episodes":
        whole = [{**each.steps(), "observations": each.observations} for each in episodes]
        return [{key: part[key] for key in KEYS[name]} for part in whole]
    if name == "ogbench.npz":  # a row for each observation; terminals mark the last, and masks the goals
        parts = [
            {
                "observations": episode.observations,
                "actions": np.append(episode.actions, np.zeros((1, 2)), 0),
                "rewards": np.append(episode.rewards, 0.0),
                "terminals": np.arange(len(episode.rewards) + 1) == len(episode.rewards),
                "masks": np.append(~part["terminals"], True),
            }
            for episode, part in zip(episodes, parts, strict=True)
        ]
    whole = joined(parts)
    if name != "ogbench.npz":
        whole |= {"masks": ~whole["terminals"], "ends": whole["terminals"] | whole["timeouts"]}
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


def write_minari(folder, episodes, observations=None, space=None, action_space=None, name="made-v0"):
    """Writes a Minari dataset with its own library to $MINARI_DATASETS_PATH, which is `folder`."""
    buffers = []
    for number, episode in enumerate(episodes):
        steps = episode.steps()
        buffers.append(
            EpisodeBuffer(
                observations=observations[number] if observations else episode.observations,
                actions=steps["actions"],
                rewards=steps["rewards"].tolist(),
                terminations=steps["terminals"].tolist(),
                truncations=steps["timeouts"].tolist(),
            )
        )
    minari.create_dataset_from_buffers(
        name,
        buffers,
        observation_space=space or spaces.Box(-np.inf, np.inf, (3,), np.float64),
        action_space=spaces.Box(-1, 1, (2,), np.float64),
    )
    if action_space:  # which would not take these buffers
        file = folder / name / "data" / "metadata.json"
        changed = {"action_space": minari.serialization.serialize_space(action_space)}
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return folder / name
