"""Datasets in memory: where trajectories end, fingerprints, and the way in by a task or a path."""

import dataclasses
import hashlib
import os
import shutil
import sys
import types

import numpy as np
import pytest
from data_formats import arrays_of, make_episode, write

from xql_jax.data.dataset import ROWS_OF_SAMPLE, from_transitions
from xql_jax.data.download import cache_folder, cached_file
from xql_jax.data.loading import check_spaces, load_dataset, share_beyond_bounds, stamps
from xql_jax.errors import UserError
from xql_jax.tasks import get_task
from xql_jax.types import Batch

KITCHEN = "mini_kitchen_microwave_kettle_light_slider-v0.hdf5"
EPISODES = [make_episode(seed, 3, seed == 1) for seed in range(3)]


def transitions(observations, next_observations, terminals, **more):
    arrays = {
        "observations": np.array(observations, np.float32)[:, None],
        "actions": np.zeros((len(terminals), 1), np.float32),
        "rewards": np.zeros(len(terminals), np.float32),
        "next_observations": np.array(next_observations, np.float32)[:, None],
        "terminals": np.array(terminals, bool),
        **more,
    }
    return from_transitions(arrays, "file")


def test_trajectories_end_at_terminals_at_time_outs_at_jumps_and_at_the_last_row():
    # 0->1, 1->2 | jump to 7: 7->8 terminal | 8->9: the observation goes on although the episode does not.
    dataset = transitions([0, 1, 7, 8], [1, 2, 8, 9], [0, 0, 1, 0])
    np.testing.assert_array_equal(dataset.ends, [False, True, True, True])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 0, 1])
    dataset = transitions([0, 1, 2], [1, 2, 3], [0, 0, 0], timeouts=np.array([0, 1, 0]))
    np.testing.assert_array_equal(dataset.ends, [False, True, True])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1])


@pytest.mark.parametrize("row", [0, 1, ROWS_OF_SAMPLE - 1, ROWS_OF_SAMPLE, ROWS_OF_SAMPLE + 3])
@pytest.mark.parametrize(("gap", "is_end"), [(5e-7, False), (2e-6, True)])
def test_a_jump_is_farther_than_1e_6_wherever_it_is(row, gap, is_end):
    seen = np.zeros(ROWS_OF_SAMPLE + 5)
    following = seen.copy()
    following[row] += gap
    dataset = transitions(seen, following, seen)
    assert dataset.ends.sum() == 1 + is_end
    assert dataset.ends[row] == is_end


def test_a_fingerprint_is_what_it_always_was():
    """So runs that others have begun go on."""
    dataset = transitions([0, 1, 7, 8], [1, 2, 8, 9], [0, 0, 1, 0])
    fields = b"".join(field.tobytes() for field in dataset.batch)
    assert dataset.fingerprint() == hashlib.sha256(b"4" + fields).hexdigest()[:16] == "0c5985957a12d207"


def test_a_fingerprint_is_of_blocks_field_by_field_and_of_every_row():
    rows = 3 * ROWS_OF_SAMPLE + 5
    many = transitions(np.arange(rows), np.arange(rows) + 1, np.zeros(rows))
    digest = hashlib.sha256(str(many.size).encode())
    for start in range(0, many.size, ROWS_OF_SAMPLE):
        for field in many.batch:
            digest.update(field[start : start + ROWS_OF_SAMPLE].tobytes())
    assert many.fingerprint() == digest.hexdigest()[:16]
    for name in Batch._fields:
        for row in (1, 40_000, many.size - 1):
            field = getattr(many.batch, name).copy()
            field[row] = np.nextafter(field[row], np.float32(np.inf))
            changed = dataclasses.replace(many, batch=many.batch._replace(**{name: field}))
            assert changed.fingerprint() != many.fingerprint()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    return tmp_path


def test_the_folder_is_that_of_d4rl(monkeypatch, folder):
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
    calls = []

    def download(address, path):
        calls.append(address)
        write(path.parent, "rows.hdf5", arrays_of("rows.hdf5", EPISODES)).rename(path)

    monkeypatch.setattr("xql_jax.data.loading.download_file", download)
    task = get_task("hopper-medium-v2")
    assert load_dataset(task, [], url).source == str(folder / "hopper_medium-v2.hdf5")
    assert calls == [url or task.dataset_url]


def test_an_embedded_dataset_is_generated(monkeypatch, folder):
    path = write(folder, "rows.hdf5", arrays_of("rows.hdf5", EPISODES))
    generator = types.SimpleNamespace(generated_file=lambda task: path)
    monkeypatch.setitem(sys.modules, "xql_jax.data.pointmaze", generator)
    task = get_task("pointmaze-umaze-v0")
    assert load_dataset(task, []).source == str(path)
    with pytest.raises(UserError, match="pointmaze-umaze-v0 is generated on this machine"):
        load_dataset(task, [], "http://mirror/a.hdf5")
    with pytest.raises(UserError, match="--dataset replaces that"):
        load_dataset(task, [str(path)], "http://mirror/a.hdf5")


@pytest.mark.parametrize("name", ["mine.hdf5", "mine.h5", "mine.HDF5", "mine.npz"])
def test_a_path_goes_before_the_task_whose_limit_stands_in_for_time_outs(folder, name):
    rows = {key: np.arange(24.0).reshape(12, 2) for key in ("observations", "actions")}
    rows |= {"rewards": np.arange(12), "terminals": np.zeros(12)}
    write(folder, "rows.npz" if name == "mine.npz" else "rows.hdf5", rows).rename(folder / name)
    task = dataclasses.replace(get_task("kitchen-mixed-v0"), episode_limit=5)
    rewards = load_dataset(task, [str(folder / name)]).batch.rewards
    np.testing.assert_array_equal(rewards, [0, 1, 2, 3, 5, 6, 7, 8, 10])
    with pytest.raises(UserError, match="no timeouts, and no task"):
        load_dataset(None, [str(folder / name)])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["data.csv"], r"data.csv: unknown suffix '.csv'.*known: .hdf5, .h5, .npz"),
        (["data"], r"data: unknown suffix ''.*a directory of .npz episodes, ogbench:FILE.npz, minari:ID"),
        (["ogbench:no-such-file.npz"], r"no-such-file.npz: no such file"),
        (["minari:"], "minari: names no dataset: write ogbench:FILE.npz, minari:ID or minari:FOLDER"),
        ([], "name a D4RL task or give a dataset file"),
    ],
)
def test_what_cannot_be_loaded_is_said(sources, message):
    with pytest.raises(UserError, match=message):
        load_dataset(None, sources)


def test_several_sources_are_joined_in_their_order(folder):
    arrays = arrays_of("transitions.npz", EPISODES)
    first = write(folder, "transitions.npz", arrays).rename(folder / "b.npz")
    second = write(folder, "episodes", arrays_of("episodes", EPISODES[1:]))
    sources = [load_dataset(None, [str(first)]), str(second)]  # one of them is in memory already
    dataset = load_dataset(None, sources)
    for key in ("observations", "actions", "rewards", "next_observations"):
        both = np.concatenate([arrays[key], arrays[key][3:]]).astype(np.float32)
        np.testing.assert_array_equal(getattr(dataset.batch, key), both)
    np.testing.assert_array_equal(np.flatnonzero(dataset.ends), [2, 5, 8, 11, 14])
    assert dataset.source == f"{first}, {second}"


@pytest.mark.parametrize("key", ["observations", "actions"])
def test_sources_of_different_sizes_are_named_both(folder, key):
    arrays = arrays_of("transitions.npz", EPISODES)
    size = arrays[key].shape[1]
    write(folder, "transitions.npz", arrays).rename(folder / "a.npz")
    wider = {name: np.ones((9, 7)) for name in arrays if key in name}
    write(folder, "transitions.npz", {**arrays, **wider}).rename(folder / "b.npz")
    with pytest.raises(UserError, match=rf"{key} have {size} entries in .*a.npz and 7 in .*b.npz"):
        load_dataset(None, [str(folder / name) for name in ("a.npz", "a.npz", "b.npz")])


def test_data_larger_than_memory_are_one_line(folder, monkeypatch):
    arrays = arrays_of("rows.hdf5", EPISODES)
    del arrays["next_observations"]
    sources = [write(folder, name, arrays) for name in ("rows.npz", "rows.hdf5")]
    sources.append(write(folder, "episodes", arrays_of("episodes", EPISODES)))
    size = sum(array.nbytes for array in arrays.values())
    for path in sources:
        for free, fits in ((size, False), (4 * size + 10_000, True)):  # a `.npy` has a header
            memory = types.SimpleNamespace(available=free)
            monkeypatch.setattr("psutil.virtual_memory", lambda memory=memory: memory)
            if fits:
                load_dataset(None, [str(path)])
                continue
            with pytest.raises(UserError, match=rf"{path}: 0.000 GB of memory are needed, 0.000 GB"):
                load_dataset(None, [str(path)])


def test_spaces_and_bounds_are_compared():
    dataset = transitions(
        [0, 1, 7, 8], [1, 2, 8, 9], [0, 0, 1, 0], actions=np.array([[0.5], [-1], [1.1], [1]])
    )
    assert share_beyond_bounds(dataset) == 0.25
    check_spaces(dataset, 1, 1, "some-env")
    with pytest.raises(UserError, match=r"file: observations have 1 entries, those of some-env have 11"):
        check_spaces(dataset, 11, 1, "some-env")
    with pytest.raises(UserError, match=r"file: actions have 1 entries, those of some-env have 3"):
        check_spaces(dataset, 1, 3, "some-env")


def test_stamps_change_with_any_file_that_is_read(tmp_path):
    """Rewritten with as many bytes, in a folder, and behind a prefix."""
    inside = tmp_path / "episodes" / "main.bin"
    inside.parent.mkdir()
    for source in (str(inside.parent), str(inside), f"ogbench:{inside}"):
        inside.write_bytes(b"old")
        os.utime(inside, ns=(1, 1))
        assert stamps(None, [source]) == [["main.bin", 3, 1]]
        inside.write_bytes(b"new")
        os.utime(inside, ns=(2, 2))
        assert stamps(None, [source]) == [["main.bin", 3, 2]]
    assert stamps(None, [str(tmp_path / "missing.npz")]) is None  # nothing tells that they are the same
    assert stamps(None, ["minari:D4RL/door/human-v2"]) is None
