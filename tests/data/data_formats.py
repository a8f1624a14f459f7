"""The same episodes, written in every format that can be read, and what a reader must make of them."""

import json
from dataclasses import dataclass

import h5py
import minari
import minari.serialization
import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer

# By name: what --dataset is told of a file or folder at that place.
SOURCES = {
    "rows.hdf5": "{}",
    "rows.npz": "{}",
    "transitions.npz": "{}",
    "masks.npz": "{}",
    "episodes": "{}",
    "ogbench.npz": "ogbench:{}",
    "minari": "minari:{}",
}
ALL = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
# The arrays that a defect can be put into; of a folder and of Minari, those of one episode.
KEYS = {
    "rows.hdf5": ALL[:5],
    "rows.npz": ALL[:5],
    "transitions.npz": ALL,
    "masks.npz": ("observations", "actions", "rewards", "masks", "ends", "next_observations"),
    "episodes": ("observations", "actions", "rewards", "terminals"),
    "ogbench.npz": ("observations", "actions", "rewards", "terminals", "masks"),
    "minari": ("observations", "actions", "rewards"),
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


episode_lists = st.lists(
    st.tuples(st.integers(0, 99), st.integers(1, 6), st.booleans()), min_size=2, max_size=6
).map(lambda each: [make_episode(seed + 100 * i, *rest) for i, (seed, *rest) in enumerate(each)])


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
    """The arrays of a file in this format; for a folder and Minari, those of each episode."""
    parts = [episode.steps() for episode in episodes]
    whole = joined(parts)
    if name == "episodes":
        return [
            {
                "observations": episode.observations,
                "actions": episode.actions,
                "rewards": episode.rewards,
                "terminals": part["terminals"],
            }
            for episode, part in zip(episodes, parts, strict=True)
        ]
    if name == "masks.npz":
        ends = whole["terminals"] | whole["timeouts"]
        return {**whole, "masks": ~whole["terminals"], "ends": ends}
    if name == "ogbench.npz":  # a row for each observation; terminals mark the last, and masks the goals
        return joined(
            [
                {
                    "observations": episode.observations,
                    "actions": np.append(episode.actions, np.zeros((1, 2)), 0),
                    "rewards": np.append(episode.rewards, 0.0),
                    "terminals": np.arange(len(episode.rewards) + 1) == len(episode.rewards),
                    "masks": np.append(~part["terminals"], True),
                }
                for episode, part in zip(episodes, parts, strict=True)
            ]
        )
    return whole


def write(folder, name, arrays):
    """Writes arrays of `arrays_of`; returns the path."""
    path = folder / name
    if name == "rows.hdf5":
        with h5py.File(path, "w") as file:
            for key in arrays:
                file[key] = arrays[key]
    elif name == "episodes":
        path.mkdir(exist_ok=True)
        for number, each in enumerate(arrays):
            np.savez(path / f"{number:03}.npz", **each)
    else:
        np.savez(path, **{key: array for key, array in arrays.items() if key in KEYS[name]})
    return path


def write_minari(folder, episodes, observations=None, observation_space=None, action_space=None):
    """Writes a Minari dataset with its own library to $MINARI_DATASETS_PATH, which is `folder`."""
    vector = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action = spaces.Box(-1, 1, (2,), np.float64)
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
    space = observation_space if observations else vector
    minari.create_dataset_from_buffers("made-v0", buffers, observation_space=space, action_space=action)
    path = folder / "made-v0"
    if not observations and (observation_space or action_space):  # which would not take these buffers
        metadata = json.loads((path / "data" / "metadata.json").read_text())
        for key, other in (("observation_space", observation_space), ("action_space", action_space)):
            if other:
                metadata[key] = minari.serialization.serialize_space(other)
        (path / "data" / "metadata.json").write_text(json.dumps(metadata))
    return path
