"""The way in: a task's own file or a given one, and the dimensions an environment expects."""

import os
import shutil
import sys
import types

import h5py
import numpy as np
import pytest

from xql_jax.data import check_spaces, load_dataset, stamps
from xql_jax.data.download import cache_folder, cached_file
from xql_jax.errors import UserError
from xql_jax.tasks import get_task

KITCHEN = "mini_kitchen_microwave_kettle_light_slider-v0.hdf5"
ROWS = {
    "observations": np.arange(12.0).reshape(6, 2),
    "actions": np.zeros((6, 1)),
    "rewards": np.arange(6.0),
    "terminals": np.zeros(6),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    return tmp_path


def write(path):
    with h5py.File(path, "w") as file:
        for key, array in ROWS.items():
            file[key] = array
    return path


def test_cache_is_that_of_d4rl(monkeypatch, folder):
    assert cached_file(get_task("kitchen-complete-v0")) == folder / KITCHEN
    assert cached_file(get_task("pointmaze-umaze-v0")) == folder / "pointmaze-umaze-v0.hdf5"
    monkeypatch.delenv("D4RL_DATASET_DIR")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache_folder()) == "/home/someone/.d4rl/datasets"


def test_a_task_finds_its_own_file(kitchen_file, folder):
    shutil.copy(kitchen_file, folder / KITCHEN)
    dataset = load_dataset(get_task("kitchen-complete-v0"), [])
    assert (dataset.size, dataset.source) == (3679, str(folder / KITCHEN))


@pytest.mark.parametrize("url", [None, "http://mirror/elsewhere.hdf5"])
def test_an_absent_dataset_is_downloaded_under_its_name(monkeypatch, folder, url):
    task = get_task("hopper-medium-v2")
    calls = []

    def download(address, path):
        calls.append(address)
        write(path)

    monkeypatch.setattr("xql_jax.data.download_file", download)
    dataset = load_dataset(task, [], url)
    assert calls == [url or task.dataset_url]
    assert dataset.source == str(folder / "hopper_medium-v2.hdf5")
    np.testing.assert_array_equal(dataset.batch.rewards, [0, 1, 2, 3, 4])


def test_an_address_goes_with_a_tasks_own_download_only(folder):
    with pytest.raises(UserError, match="pointmaze-umaze-v0 is generated on this machine"):
        load_dataset(get_task("pointmaze-umaze-v0"), [], "http://mirror/a.hdf5")
    with pytest.raises(UserError, match="--dataset replaces that"):
        load_dataset(get_task("hopper-medium-v2"), [str(write(folder / "a.hdf5"))], "http://mirror/a.hdf5")


def test_pointmaze_is_generated(monkeypatch, folder):
    task = get_task("pointmaze-umaze-v0")
    generator = types.SimpleNamespace(
        generated_file=lambda task: write(folder / f"made-for-{task.name}.hdf5")
    )
    monkeypatch.setitem(sys.modules, "xql_jax.data.pointmaze", generator)
    assert load_dataset(task, []).source == str(folder / "made-for-pointmaze-umaze-v0.hdf5")


@pytest.mark.parametrize("name", ["mine.hdf5", "mine.h5", "mine.HDF5", "mine.npz"])
def test_a_path_goes_before_the_task_and_is_read_by_its_suffix(folder, name):
    path = folder / name
    np.savez(path, **ROWS) if name.endswith("npz") else write(path)
    # No time-outs in it: the kitchen's limit of 280 steps, longer than the file, drops its last row only.
    dataset = load_dataset(get_task("kitchen-mixed-v0"), [str(path)])
    np.testing.assert_array_equal(dataset.batch.rewards, [0, 1, 2, 3, 4])
    with pytest.raises(UserError, match="no timeouts, and no task"):
        load_dataset(None, [str(path)])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["data.csv"], r"data.csv: unknown suffix '.csv'.*known: .hdf5, .h5, .npz"),
        (["data"], r"data: unknown suffix ''.*a directory of .npz episodes, ogbench:FILE.npz, minari:ID"),
        (["no-such-file.hdf5"], r"no-such-file.hdf5: no such file"),
        (["ogbench:no-such-file.npz"], r"no-such-file.npz: no such file"),
        ([], "name a D4RL task or give a dataset file"),
    ],
)
def test_what_cannot_be_loaded_is_said(sources, message):
    with pytest.raises(UserError, match=message):
        load_dataset(None, sources)


def test_several_sources_are_joined_in_their_order(folder):
    rows = {**ROWS, "next_observations": ROWS["observations"] + 2}
    np.savez(folder / "b.npz", **rows)
    np.savez(folder / "a.npz", **{key: array[:2] for key, array in rows.items()}, timeouts=[1, 0])
    sources = [str(folder / "b.npz"), str(folder / "a.npz")]
    dataset = load_dataset(None, sources)
    np.testing.assert_array_equal(dataset.batch.rewards, [0, 1, 2, 3, 4, 5, 0, 1])
    np.testing.assert_array_equal(dataset.batch.next_observations[:, 1], [3, 5, 7, 9, 11, 13, 3, 5])
    np.testing.assert_array_equal(dataset.ends, [0, 0, 0, 0, 0, 1, 1, 1])
    assert dataset.source == ", ".join(sources)
    assert [dataset.batch.masks.dtype, dataset.ends.dtype] == [np.float32, bool]


@pytest.mark.parametrize("key", ["observations", "actions"])
def test_sources_of_different_sizes_are_named_both(folder, key):
    rows = {**ROWS, "next_observations": ROWS["observations"]}
    np.savez(folder / "a.npz", **rows)
    wider = {name: np.ones((6, 7)) for name in rows if key in name}
    np.savez(folder / "b.npz", **{**rows, **wider})
    size = ROWS[key].shape[1]
    with pytest.raises(UserError, match=rf"{key} have {size} entries in .*a.npz and 7 in .*b.npz"):
        load_dataset(None, [str(folder / "a.npz"), str(folder / "a.npz"), str(folder / "b.npz")])


def test_a_minari_folder_is_not_taken_for_episodes(folder):
    (folder / "some" / "data").mkdir(parents=True)
    (folder / "some" / "data" / "metadata.json").write_text("{}")
    with pytest.raises(UserError, match=r"if it is a Minari dataset, give minari:.*some"):
        load_dataset(None, [str(folder / "some")])


def test_spaces_must_agree(folder):
    dataset = load_dataset(get_task("kitchen-mixed-v0"), [str(write(folder / "a.hdf5"))])
    check_spaces(dataset, 2, 1, "some-env")
    with pytest.raises(UserError, match=r"a.hdf5: observations have 2 entries, those of some-env have 11"):
        check_spaces(dataset, 11, 1, "some-env")
    with pytest.raises(UserError, match=r"a.hdf5: actions have 1 entries, those of some-env have 3"):
        check_spaces(dataset, 2, 3, "some-env")


def test_stamps_change_with_any_file_that_is_read(tmp_path):
    """Rewritten with as many bytes, in a folder, and behind a prefix."""
    inside = tmp_path / "episodes" / "main.bin"
    inside.parent.mkdir()
    for source in (str(inside.parent), str(inside), f"ogbench:{inside}"):
        inside.write_bytes(b"old")
        os.utime(inside, ns=(1, 1))
        before = stamps(None, [source])
        assert before == stamps(None, [source]) == [["main.bin", 3, 1]]
        inside.write_bytes(b"new")
        os.utime(inside, ns=(2, 2))
        assert stamps(None, [source]) == [["main.bin", 3, 2]]


def test_without_stamps_data_are_not_taken_for_the_same(tmp_path):
    assert stamps(None, [str(tmp_path / "missing.npz")]) is None
    assert stamps(None, ["minari:D4RL/door/human-v2"]) is None


def test_data_larger_than_memory_are_one_line(folder, monkeypatch):
    """One byte less than three copies of the arrays takes, see `COPIES`."""
    np.savez(folder / "a.npz", **ROWS)
    (folder / "episodes").mkdir()
    np.savez(folder / "episodes" / "0.npz", **ROWS)
    write(folder / "a.hdf5")
    size = sum(array.nbytes for array in ROWS.values())
    for free, fits in ((3 * size - 1, False), (4 * size + 2000, True)):
        memory = types.SimpleNamespace(available=free)
        monkeypatch.setattr("psutil.virtual_memory", lambda memory=memory: memory)
        for name in ("a.npz", "a.hdf5", "episodes"):
            if fits:
                load_dataset(get_task("kitchen-mixed-v0"), [str(folder / name)])
                continue
            with pytest.raises(UserError, match=rf"{name}: 0.00 MB of memory are needed, 0.00 MB are free"):
                load_dataset(get_task("kitchen-mixed-v0"), [str(folder / name)])
