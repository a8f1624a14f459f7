"""Minari's datasets, made here with its own library."""

import json

import h5py
import minari
import minari.serialization
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from xql_jax.data import load_dataset
from xql_jax.data.episodes import read_minari
from xql_jax.errors import UserError

# Minari would like to know the author, the environment and more.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")

VECTOR = spaces.Box(-np.inf, np.inf, (1,), np.float64)
ACTION = spaces.Box(-1, 1, (2,), np.float32)


def buffer(start, length, terminated, observations=None):
    steps = np.arange(start, start + length)
    last = np.arange(length) == length - 1
    if observations is None:
        observations = np.arange(start, start + length + 1, dtype=np.float64)[:, None]
    return EpisodeBuffer(
        observations=observations,
        actions=np.full((length, 2), start / 100, np.float32),
        rewards=steps.astype(np.float64).tolist(),
        terminations=(last & terminated).tolist(),
        truncations=(last & (not terminated)).tolist(),
    )


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def create(name, episodes, observation_space=VECTOR, action_space=ACTION):
    minari.create_dataset_from_buffers(
        name, episodes, observation_space=observation_space, action_space=action_space
    )


def assert_three_episodes(dataset):
    np.testing.assert_array_equal(dataset.batch.rewards, [0, 1, 2, 3, 4, 20])
    np.testing.assert_array_equal(dataset.batch.observations[:, 0], dataset.batch.rewards)
    np.testing.assert_array_equal(dataset.batch.next_observations[:, 0], dataset.batch.rewards + 1)
    np.testing.assert_allclose(dataset.batch.actions[:, 0], [0, 0, 0, 0.03, 0.03, 0.2])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(dataset.ends, [0, 0, 1, 0, 1, 1])


def test_an_id_or_a_folder_names_a_dataset(root):
    # The second episode goes on where the first was cut off: only the truncation tells.
    create("here/made-v0", [buffer(0, 3, False), buffer(3, 2, True), buffer(20, 1, False)])
    for name in ("here/made-v0", str(root / "here/made-v0"), str(root / "here/made-v0/data")):
        dataset = load_dataset(None, [f"minari:{name}"])
        assert_three_episodes(dataset)
        assert dataset.source == f"minari:{name}"
    assert minari.load_dataset("here/made-v0").total_steps == dataset.size


def test_dictionaries_are_joined_in_the_order_of_their_keys(root):
    parts = {"observation": [[0.0, 1], [2, 3], [4, 5]], "goal": [[9.0], [9], [9]], "at": [[6.0], [7], [8]]}
    parts = {key: np.array(values) for key, values in parts.items()}
    space = spaces.Dict(
        {key: spaces.Box(-10, 10, values.shape[1:], np.float64) for key, values in parts.items()}
    )
    create("maze-v0", [buffer(0, 2, True, parts)], space)
    dataset = read_minari("maze-v0")
    np.testing.assert_array_equal(dataset.batch.observations, [[6, 9, 0, 1], [7, 9, 2, 3]])
    np.testing.assert_array_equal(dataset.batch.next_observations, [[7, 9, 2, 3], [8, 9, 4, 5]])


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (VECTOR, spaces.Discrete(4), r"the action space is Discrete\(4\); only vectors"),
        (spaces.Discrete(3), ACTION, r"the observation space is Discrete\(3\)"),
        (spaces.Box(0, 1, (3, 2)), ACTION, r"the observation space is Box.*\(3, 2\)"),
        (spaces.Dict(a=VECTOR, b=spaces.Discrete(2)), ACTION, r"observation space at 'b' is Discrete\(2\)"),
        (spaces.Dict(a=spaces.Dict(b=VECTOR)), ACTION, r"observation space at 'a' is Dict"),
        (spaces.Tuple([VECTOR]), ACTION, r"the observation space is Tuple"),
    ],
)
def test_other_spaces_are_refused(root, observation_space, action_space, message):
    create("other-v0", [buffer(0, 3, True)])
    path = root / "other-v0" / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    for key, space in (("observation_space", observation_space), ("action_space", action_space)):
        metadata[key] = minari.serialization.serialize_space(space)
    path.write_text(json.dumps(metadata))
    with pytest.raises(UserError, match=f"minari:other-v0: .*{message}"):
        read_minari("other-v0")


def test_an_unknown_id_is_not_downloaded(root, monkeypatch):
    monkeypatch.setattr(minari, "download_dataset", None)
    with pytest.raises(UserError, match=r"minari:D4RL/door/human-v2: no such dataset in .*there is none yet"):
        read_minari("D4RL/door/human-v2")
    create("D4RL/door/human-v1", [buffer(0, 3, True)])
    with pytest.raises(
        UserError, match=r"nearest there: D4RL/door/human-v1.*`minari download D4RL/door/human-v2` fetches it"
    ):
        read_minari("D4RL/door/human-v2")


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(UserError, match=r"no Minari dataset, it has no data/metadata\.json"):
        read_minari(str(tmp_path))


def edit_hdf5(key, values):
    def edit(folder):
        with h5py.File(folder / "main_data.hdf5", "a") as file:
            del file["episode_1"][key]
            if values is not None:
                file["episode_1"][key] = values

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "metadata.json").write_text("no json"),
            "Minari cannot open .*JSONDecodeError",
        ),
        (lambda folder: (folder / "metadata.json").write_text("{}"), "Minari cannot open"),
        (lambda folder: (folder / "main_data.hdf5").unlink(), "Minari cannot open .*No data found"),
        (
            lambda folder: (folder / "main_data.hdf5").write_bytes(b"no HDF5"),
            "not a readable HDF5 file",
        ),
        (edit_hdf5("rewards", None), "episode 1: cannot be read: KeyError"),
        (edit_hdf5("rewards", [0.0, np.nan]), "episode 1: rewards holds nan at row 1"),
        (edit_hdf5("rewards", [0.0]), "episode 1: rewards and observations disagree"),
        (edit_hdf5("observations", np.zeros((2, 1, 1))), r"episode 1: observations has shape \(2, 1, 1\)"),
    ],
)
def test_damage_is_told_where_it_is(root, damage, message):
    create("made-v0", [buffer(0, 3, False), buffer(3, 2, True)])
    damage(root / "made-v0" / "data")
    with pytest.raises(UserError, match=f"made-v0.*{message}"):
        read_minari("made-v0")
