"""Datasets in memory: where trajectories end, fingerprints, and the way in by a task or a path."""

import dataclasses
import hashlib
import os
import shutil

import numpy as np
import pytest
from data_formats import EPISODES, arrays_of, write

from xql_jax.data.dataset import ROWS_OF_SAMPLE, from_transitions
from xql_jax.data.loading import cached_file, load_dataset, stamps
from xql_jax.errors import UserError
from xql_jax.suites.tasks import get_task
from xql_jax.types import Batch

KITCHEN = "mini_kitchen_microwave_kettle_light_slider-v0.hdf5"


def transitions(observations, next_observations, terminals, as_iql=False, **more):
    arrays = {
        "observations": np.array(observations, np.float32)[:, None],
        "actions": np.zeros((len(terminals), 1), np.float32),
        "rewards": np.zeros(len(terminals), np.float32),
        "next_observations": np.array(next_observations, np.float32)[:, None],
        "terminals": np.array(terminals, bool),
        **more,
    }
    return from_transitions(arrays, "file", as_iql)


def test_trajectories_end_at_terminals_at_time_outs_at_jumps_and_at_the_last_row():
    # 0->1, 1->2 | jump to 7: 7->8 terminal | 8->9: the observation goes on although the episode does not.
    dataset = transitions([0, 1, 7, 8], [1, 2, 8, 9], [0, 0, 1, 0])
    np.testing.assert_array_equal(dataset.ends, [False, True, True, True])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 0, 1])
    dataset = transitions([0, 1, 2], [1, 2, 3], [0, 0, 0], timeouts=np.array([0, 1, 0]))
    np.testing.assert_array_equal(dataset.ends, [False, True, True])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1])
    # In D4RL's files, a jump is farther than 1e-6; others' are in test_roundings.py.
    dataset = transitions([0, 0, 0, 0], [5e-7, 2e-6, 0, 1], [0, 0, 0, 0], as_iql=True)
    np.testing.assert_array_equal(dataset.ends, [False, True, False, True])


def test_the_same_rows_in_other_episodes_are_other_data():
    """The fingerprint is of rows alone; time-outs, and where an episode goes on after a terminal, are not."""
    rows = [0, 1, 2, 3], [1, 2, 3, 4], [0, 1, 0, 0]
    plain = transitions(*rows)
    at_once = transitions(*rows, timeouts=np.array([0, 0, 1, 0]))
    going_on = transitions(*rows, goes_on=np.array([0, 1, 0, 0]))
    assert plain.fingerprint() == at_once.fingerprint() == going_on.fingerprint()
    assert len({data.episodes_digest() for data in (plain, at_once, going_on)}) == 3
    same = transitions(*rows, timeouts=np.array([0, 1, 0, 1]))  # it ends there anyway
    assert same.episodes_digest() == plain.episodes_digest()


def test_a_fingerprint_is_of_blocks_field_by_field_and_of_every_row():
    rows = 2 * ROWS_OF_SAMPLE + 5
    many = transitions(np.arange(rows), np.arange(rows) + 1, np.zeros(rows))
    digest = hashlib.sha256(str(many.size).encode())
    for start in range(0, many.size, ROWS_OF_SAMPLE):
        for field in many.batch:
            digest.update(field[start : start + ROWS_OF_SAMPLE].tobytes())
    assert many.fingerprint() == digest.hexdigest()[:16]
    for name in Batch._fields:
        field = getattr(many.batch, name).copy()
        field[-1] = np.nextafter(field[-1], np.float32(np.inf))
        changed = dataclasses.replace(many, batch=many.batch._replace(**{name: field}))
        assert changed.fingerprint() != many.fingerprint()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    return tmp_path


def test_a_task_finds_its_own_file_in_d4rls_folder(kitchen_file, folder, monkeypatch):
    shutil.copy(kitchen_file, folder / KITCHEN)
    dataset = load_dataset(get_task("kitchen-complete-v0"), [])
    assert (dataset.size, dataset.source) == (3679, str(folder / KITCHEN))
    monkeypatch.delenv("D4RL_DATASET_DIR")
    monkeypatch.setenv("HOME", "/home/someone")
    generated = cached_file(get_task("pointmaze-umaze-v0"))
    assert str(generated) == "/home/someone/.d4rl/datasets/pointmaze-umaze-v0.hdf5"


def test_several_sources_are_joined_in_their_order(folder):
    arrays = arrays_of("transitions.npz", EPISODES)
    first = write(folder / "b.npz", arrays)
    second = write(folder / "episodes", arrays_of("episodes", EPISODES[1:]))
    sources = [load_dataset(None, [str(first)]), str(second)]  # one of them is in memory already
    dataset = load_dataset(None, sources)
    for key in ("observations", "actions", "rewards", "next_observations"):
        both = np.concatenate([arrays[key], arrays[key][3:]])
        np.testing.assert_array_equal(getattr(dataset.batch, key), both)
    np.testing.assert_array_equal(np.flatnonzero(dataset.ends), [2, 4, 8, 10, 14])
    other = write(folder / "c.npz", arrays | {"actions": np.ones((9, 7))})
    with pytest.raises(UserError, match=r"c.npz: actions have 7 entries, those of .*b.npz have 2"):
        load_dataset(None, [str(first), str(other)])


def test_stamps_tell_any_file_with_other_content(tmp_path, monkeypatch):
    """Also with as many bytes; in a folder, and behind a prefix."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    inside = tmp_path / "episodes" / "main.bin"
    inside.parent.mkdir()
    for source in (str(inside.parent), str(inside), f"ogbench:{inside}", "minari:episodes"):
        for time, content in enumerate((b"old", b"new")):
            inside.write_bytes(content)
            os.utime(inside, (time, time))
            assert stamps(None, [source]) == [["main.bin", 3, hashlib.sha256(content).hexdigest()]]
    assert stamps(None, [str(tmp_path / "missing.npz")]) is None  # nothing tells that they are the same
    assert stamps(None, ["minari:D4RL/door/human-v2"]) is None
