"""Arrays that lie in other files than the one that the user named: refused, or read when asked for."""

import os
import signal

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from mapped_files import make_arrays, write
from minari.data_collector import EpisodeBuffer

from xql_jax.data import load_dataset
from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.mapped import map_dataset
from xql_jax.errors import UserError


@pytest.fixture(autouse=True)
def no_waiting():
    """Who opens a pipe waits for ever."""
    signal.alarm(60)
    yield
    signal.alarm(0)


def external_link(file, folder, rewards):
    file["rewards"] = h5py.ExternalLink("other.hdf5", "rewards")


def link_to_one(file, folder, rewards):
    file["group"] = h5py.ExternalLink("other.hdf5", "group")
    file["rewards"] = h5py.SoftLink("group/rewards")


def link_to_a_link(file, folder, rewards):
    with h5py.File(folder / "between.hdf5", "w") as between:
        between["a"] = h5py.ExternalLink("other.hdf5", "/group")
        between["b"] = h5py.SoftLink("/a")
    file["rewards"] = h5py.ExternalLink("between.hdf5", "b/rewards")


def external_storage(file, folder, rewards):
    (folder / "raw").write_bytes(bytes(4) + rewards.tobytes())
    raw = [(str(folder / "raw"), 4, 4000), (str(folder / "raw"), 4004, h5py.h5f.UNLIMITED)]
    file.create_dataset("rewards", rewards.shape, rewards.dtype, external=raw)


def virtual_dataset(file, folder, rewards):
    layout = h5py.VirtualLayout(rewards.shape, rewards.dtype)
    layout[:] = h5py.VirtualSource(folder / "other.hdf5", "rewards", rewards.shape)
    file.create_virtual_dataset("rewards", layout)


def unbounded_virtual_dataset(file, folder, rewards):
    layout = h5py.VirtualLayout(rewards.shape, rewards.dtype, maxshape=(None,))
    source = h5py.VirtualSource("other.hdf5", "unbounded", rewards.shape, maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("rewards", layout)


KINDS = [
    external_link,
    link_to_one,
    link_to_a_link,
    external_storage,
    virtual_dataset,
    unbounded_virtual_dataset,
]


def make(folder, kind):
    """A file whose rewards lie elsewhere, and the same in one file."""
    arrays = make_arrays()
    whole = write(folder / "whole.hdf5", arrays)
    rewards = arrays.pop("rewards")
    other = write(folder / "other.hdf5", {"rewards": rewards, "group/rewards": rewards})
    with h5py.File(other, "a") as file:
        file.create_dataset("unbounded", data=rewards, maxshape=(None,))
    path = write(folder / "data.hdf5", arrays)
    with h5py.File(path, "a") as file:
        kind(file, folder, rewards)
    return path, whole


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_read_only_when_asked_for(tmp_path, columns, kind):
    path, whole = make(tmp_path, kind)
    for data_on in (None, "auto", "host", "disk"):
        with pytest.raises(UserError, match=r"data\.hdf5: rewards lies in another file, .*--external_data"):
            load_dataset(None, [str(path)], data_on=data_on)
    dataset = load_dataset(None, [str(path)], external_data=True)
    assert dataset.fingerprint() == read_hdf5(whole, None).fingerprint()
    # The file's own time would not tell when they change.
    with pytest.raises(UserError, match=r"data\.hdf5: rewards lies in another file.*--data_on=host"):
        load_dataset(None, [str(path)], data_on="disk", external_data=True)
    assert not columns.exists()


@pytest.mark.parametrize("external_data", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_there_is_not_opened(tmp_path, kind, external_data):
    path, _ = make(tmp_path, kind)
    for name in ("raw", "other.hdf5"):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
    expected = "which is not a file" if external_data else "--external_data"
    with pytest.raises(UserError, match=f"rewards lies in .*{expected}"):
        load_dataset(None, [str(path)], external_data=external_data)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_there_is_told(tmp_path, kind):
    """For a virtual dataset HDF5 would give zeros."""
    path, _ = make(tmp_path, kind)
    for name in ("raw", "other.hdf5"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(
        UserError, match=r"rewards lies in another file, .*(other\.hdf5|raw), which is missing"
    ):
        load_dataset(None, [str(path)], external_data=True)


@pytest.mark.parametrize("variable", [None, "HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX"])
@pytest.mark.parametrize("kind", [external_link, unbounded_virtual_dataset])
@pytest.mark.parametrize("place", ["beside", "current", "prefix"])
def test_the_file_that_is_looked_at_is_the_one_that_hdf5_takes(tmp_path, monkeypatch, kind, variable, place):
    """One of three files of the name has the rewards; HDF5 alone decides which it opens."""
    folders = {name: tmp_path / name for name in ("beside", "current", "prefix")}
    for folder in folders.values():
        folder.mkdir()
    path, whole = make(folders["beside"], kind)
    good = (folders["beside"] / "other.hdf5").read_bytes()
    for name, folder in folders.items():
        with h5py.File(folder / "other.hdf5", "w") as file:
            file["nothing"] = 0
        if name == place:
            (folder / "other.hdf5").write_bytes(good)
    if variable:
        monkeypatch.setenv(variable, str(folders["prefix"]))
    monkeypatch.chdir(folders["current"])
    expected = read_hdf5(whole, None).batch.rewards
    with h5py.File(path, "r") as file, h5py.File(whole, "r") as right:
        try:
            opened = np.array_equal(file["rewards"], right["rewards"])  # zeros where a source lacks it
        except KeyError:
            opened = False
    if opened:
        np.testing.assert_array_equal(
            load_dataset(None, [str(path)], external_data=True).batch.rewards, expected
        )
    else:
        with pytest.raises(UserError):
            load_dataset(None, [str(path)], external_data=True)


def test_a_virtual_datasets_source_without_the_array(tmp_path):
    path, _ = make(tmp_path, virtual_dataset)
    with h5py.File(tmp_path / "other.hdf5", "a") as file:
        del file["rewards"]
    with pytest.raises(UserError, match=r"source is missing, .*other\.hdf5:rewards"):
        load_dataset(None, [str(path)], external_data=True)


def test_plain_bytes_that_end_too_early(tmp_path):
    path, _ = make(tmp_path, external_storage)
    os.truncate(tmp_path / "raw", 10_000)
    with pytest.raises(UserError, match="raw, which ends before they do"):
        load_dataset(None, [str(path)], external_data=True)


@pytest.mark.parametrize("external_data", [False, True])
def test_links_within_the_file_are_as_good_as_its_arrays(tmp_path, columns, external_data):
    arrays = make_arrays()
    renamed = {"deep/mine" if key == "rewards" else key: array for key, array in arrays.items()}
    path = write(tmp_path / "data.hdf5", renamed)
    with h5py.File(path, "a") as file:
        file["rewards"] = h5py.SoftLink("/beside/./mine")
        file["beside"] = h5py.SoftLink("deep")
    expected = read_hdf5(write(tmp_path / "whole.hdf5", arrays), None).fingerprint()
    assert read_hdf5(path, None, external_data).fingerprint() == expected
    assert map_dataset(path, None).fingerprint() == expected


@pytest.mark.parametrize("external_data", [False, True])
def test_links_without_an_end(tmp_path, external_data):
    path = write(tmp_path / "data.hdf5", make_arrays(rewards=None))
    with h5py.File(path, "a") as file:
        file["rewards"] = h5py.SoftLink("/rewards")
    with pytest.raises(UserError, match="rewards is behind more than 16 links"):
        read_hdf5(path, None, external_data)
    with h5py.File(path, "a") as file:
        del file["rewards"]
        file["rewards"] = h5py.SoftLink("/nowhere")
    with pytest.raises(UserError, match="no array rewards"):
        read_hdf5(path, None, external_data)


@pytest.mark.parametrize("layers", [14, 20])
def test_virtual_datasets_of_virtual_datasets(tmp_path, layers):
    """Each layer is there twice and made of both of the next: a million ways lead to the last."""
    path = write(tmp_path / "data.hdf5", make_arrays(rewards=None))
    rows = np.arange(5000, dtype=np.float32)
    with h5py.File(path, "a") as file:
        file["layer0a"] = file["layer0b"] = rows
        for layer in range(1, layers):
            for twin in "ab":
                layout = h5py.VirtualLayout(rows.shape, rows.dtype)
                for below, part in (("a", slice(0, 2500)), ("b", slice(2500, 5000))):
                    source = h5py.VirtualSource(".", f"layer{layer - 1}{below}", rows.shape)
                    layout[part] = source[part]
                file.create_virtual_dataset(f"layer{layer}{twin}", layout)
        file["rewards"] = h5py.SoftLink(f"layer{layers - 1}a")
    if layers == 14:
        kept = np.flatnonzero(~make_arrays()["timeouts"][:-1])
        np.testing.assert_array_equal(read_hdf5(path, None).batch.rewards, rows[kept])
    else:
        with pytest.raises(UserError, match="behind more than 16 links"):
            read_hdf5(path, None)


def make_minari(root):
    box = spaces.Box(-1, 1, (2,), np.float32)
    steps = np.zeros(5)
    episode = EpisodeBuffer(
        observations=np.zeros((6, 2), np.float32),
        actions=np.zeros((5, 2), np.float32),
        rewards=steps.tolist(),
        terminations=steps.astype(bool).tolist(),
        truncations=(steps == 0).tolist(),
        infos={"x": np.zeros(6)},
    )
    minari.create_dataset_from_buffers("some/data-v0", [episode], observation_space=box, action_space=box)
    return root / "some" / "data-v0" / "data" / "main_data.hdf5"


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
@pytest.mark.parametrize("place", ["episode_0/rewards", "episode_0/infos/x", "episode_0"])
def test_minaris_arrays_behind_a_link(tmp_path, monkeypatch, place):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    path = make_minari(tmp_path)
    assert load_dataset(None, ["minari:some/data-v0"]).size == 5
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(path, "a") as file:
        del file[place]
        file[place] = h5py.ExternalLink(tmp_path / "pipe", "x")
    with pytest.raises(UserError, match=rf"main_data\.hdf5: {place} is a link.*--external_data"):
        load_dataset(None, ["minari:some/data-v0"])


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
def test_minaris_episodes_that_are_one(tmp_path, monkeypatch):
    """It would be read as often as it is named, and of any number only one is listed."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    path = make_minari(tmp_path)
    with h5py.File(path, "a") as file:
        file["episode_1"] = file["episode_0"]
    with pytest.raises(UserError, match=r"main_data\.hdf5: episode_0 is a link"):
        load_dataset(None, ["minari:some/data-v0"])
