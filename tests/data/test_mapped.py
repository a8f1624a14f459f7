"""A mapped file against the same file read into memory: the same transitions, bit for bit."""

import os
import shutil
import threading
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from mapped_files import CHANGES, READERS, ROWS, STORED, folders, make_arrays, write

from xql_jax.data import load_dataset, mapped
from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.mapped import map_dataset
from xql_jax.data.npz import read_npz
from xql_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("short_passes", "columns")


@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("name", CHANGES)
def test_every_transition_is_that_of_memory(tmp_path, how, name):
    suffix, options = STORED[how]
    arrays = make_arrays(**CHANGES[name])
    if "chunks" in options and options["chunks"] is not True:
        path = tmp_path / f"data{suffix}"
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file.create_dataset(key, data=array, chunks=options["chunks"][: array.ndim])
    else:
        path = write(tmp_path / f"data{suffix}", arrays, **options)
    in_memory, on_disk = READERS[suffix](path, 130), map_dataset(path, 130)
    assert on_disk.size == in_memory.size
    assert (on_disk.observation_dim, on_disk.action_dim) == (3, 2)
    batch = on_disk.take(np.arange(on_disk.size))
    for field, expected in zip(batch, in_memory.batch, strict=True):
        assert field.dtype == np.float32
        assert field.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(on_disk.trajectory_returns(), in_memory.trajectory_returns())
    assert on_disk.fingerprint() == in_memory.fingerprint()


def test_transitions_with_their_next_observations(tmp_path):
    generator = np.random.default_rng(3)
    path = write(
        tmp_path / "data.npz",
        make_arrays(next_observations=generator.normal(size=(ROWS, 3)).astype(np.float32)),
    )
    in_memory, on_disk = read_npz(path, None), map_dataset(path, None)
    assert on_disk.size == ROWS
    drawn = generator.integers(ROWS, size=3000)
    for field, expected in zip(on_disk.take(drawn), in_memory.batch, strict=True):
        assert field.tobytes() == expected[drawn].tobytes()
    np.testing.assert_array_equal(on_disk.trajectory_returns(), in_memory.trajectory_returns())


def test_jumps_part_trajectories_as_in_memory(tmp_path):
    states = np.random.default_rng(4).normal(size=(ROWS + 1, 3)).astype(np.float32).cumsum(axis=0)
    states[616::617] += 1000.0  # also where a pass over the file begins
    path = write(
        tmp_path / "data.npz",
        make_arrays(observations=states[:-1], next_observations=states[1:].copy(), timeouts=None),
    )
    states_after = np.load(path)["next_observations"]
    states_after[99::100] += 1.0
    path = write(
        tmp_path / "jumps.npz",
        make_arrays(observations=states[:-1], next_observations=states_after, timeouts=None),
    )
    in_memory, on_disk = read_npz(path, None), map_dataset(path, None)
    assert len(in_memory.trajectory_returns()) > 50
    np.testing.assert_array_equal(on_disk.trajectory_returns(), in_memory.trajectory_returns())
    assert on_disk.fingerprint() == in_memory.fingerprint()


def test_a_time_out_whose_observation_is_repeated_parts_nothing_as_in_memory(tmp_path):
    """D4RL's generators of mazes write an arrival's observation twice, and the trajectory goes on."""
    arrays = make_arrays(terminals=np.zeros(ROWS, bool))
    (timeouts,) = np.nonzero(arrays["timeouts"][:-1])
    repeated = timeouts[::2]
    arrays["observations"][repeated + 1] = arrays["observations"][repeated]
    path = write(tmp_path / "data.hdf5", arrays)
    in_memory, on_disk = read_hdf5(path, None), map_dataset(path, None)
    returns = in_memory.trajectory_returns()
    assert 30 < len(returns) < 0.7 * len(timeouts)
    np.testing.assert_array_equal(on_disk.trajectory_returns(), returns)


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4"])
def test_draws_take_no_memory_but_their_own(tmp_path, suffix, kind):
    arrays = {
        key: array if array.dtype == bool else array.astype(kind) for key, array in make_arrays().items()
    }
    dataset = map_dataset(write(tmp_path / f"data{suffix}", arrays), None)
    drawn = np.arange(10)
    dataset.take(drawn)
    tracemalloc.start()
    dataset.take(drawn)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000  # of 120,000 bytes and more in the file


def test_masks_stand_for_terminals(tmp_path):
    arrays = make_arrays()
    arrays["masks"] = 1.0 - arrays.pop("terminals")
    path = write(tmp_path / "data.npz", arrays)
    for field, expected in zip(
        map_dataset(path, None).take(np.arange(100)), read_npz(path, None).take(np.arange(100)), strict=True
    ):
        assert field.tobytes() == expected.tobytes()
    arrays["masks"][3] = 0.5
    with pytest.raises(UserError, match=r"masks holds 0\.5 at row 3"):
        map_dataset(write(tmp_path / "half.npz", arrays), None)
    contradiction = make_arrays(masks=np.zeros(ROWS))
    with pytest.raises(UserError, match=r"masks holds 0\.0 at row 0.*1 - terminals"):
        map_dataset(write(tmp_path / "contradiction.npz", contradiction), None)


def test_rows_whose_ends_are_marked(tmp_path):
    ends = make_arrays()["timeouts"] | make_arrays()["terminals"]
    path = write(tmp_path / "data.npz", make_arrays(timeouts=None, ends=ends))
    in_memory, on_disk = read_npz(path, None), map_dataset(path, None)
    batch = on_disk.take(np.arange(on_disk.size))
    for field, expected in zip(batch, in_memory.batch, strict=True):
        assert field.tobytes() == expected.tobytes()


def test_transforms_apply_to_what_is_drawn(tmp_path):
    path = write(tmp_path / "data.hdf5", make_arrays())
    doubled = map_dataset(path, None).apply(lambda batch: batch._replace(rewards=2 * batch.rewards))
    shifted = doubled.apply(lambda batch: batch._replace(rewards=batch.rewards - 1))
    drawn = np.array([7, 3, 3])
    expected = 2 * read_hdf5(path, None).batch.rewards[drawn] - 1
    np.testing.assert_array_equal(shifted.take(drawn).rewards, expected)


def test_what_is_not_finite_is_named_when_it_is_drawn(tmp_path):
    arrays = make_arrays(timeouts=np.arange(ROWS) % 100 == 0)
    arrays["actions"][777, 1] = np.nan
    dataset = map_dataset(write(tmp_path / "data.hdf5", arrays), None)
    row_777 = 777 - 8  # rows 0, 100, ..., 700 are left out
    dataset.take(np.array([row_777 - 1, row_777 + 1]))
    with pytest.raises(UserError, match=r"data\.hdf5: actions holds nan at row 777"):
        dataset.take(np.array([5, row_777]))


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rewards": None}, "no array rewards"),
        ({"rewards": np.zeros(ROWS - 1)}, "4999 rows"),
        ({"actions": np.zeros(ROWS)}, "actions has shape"),
        ({"observations": np.zeros((ROWS, 0))}, "observations has shape"),
        ({"terminals": np.zeros(ROWS, complex)}, "terminals has"),
        ({"timeouts": np.ones(ROWS, bool)}, "no transition is left"),
        ({"timeouts": None}, "no timeouts"),
    ],
)
def test_unfit_files_are_refused(tmp_path, suffix, changes, words):
    with pytest.raises(UserError, match=words):
        map_dataset(write(tmp_path / f"data{suffix}", make_arrays(**changes)), None)


@pytest.mark.parametrize("suffix", READERS)
def test_damaged_files_are_refused(tmp_path, suffix):
    content = write(tmp_path / f"whole{suffix}", make_arrays()).read_bytes()
    for name, damaged in (("cut", content[: len(content) // 2]), ("text", b"nothing of the kind")):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not a readable"):
            map_dataset(path, None)


@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize(("data_on", "room"), [("disk", 1 << 40), ("auto", 100_000), ("auto", 1 << 40)])
def test_it_is_chosen_by_itself_where_memory_has_no_room(tmp_path, monkeypatch, how, data_on, room):
    suffix, options = STORED[how]
    options = {key: value for key, value in options.items() if key != "chunks"}
    path = write(tmp_path / f"data{suffix}", make_arrays(), **options)
    monkeypatch.setattr("xql_jax.data.memory.available_memory", lambda: room)
    dataset = load_dataset(None, [str(path)], data_on=data_on)
    assert isinstance(dataset, mapped.MappedDataset) == (data_on == "disk" or room == 100_000)
    assert dataset.fingerprint() == READERS[suffix](path, None).fingerprint()


def test_read_ahead_goes_through_the_columns(tmp_path, monkeypatch):
    dataset = map_dataset(write(tmp_path / "data.hdf5", make_arrays()), None)
    opened, real = [], Path.open

    def watched(path, *arguments, **options):
        opened.append(path.stem)
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", watched)
    mapped.read_ahead(dataset)
    for thread in threading.enumerate():
        if thread.name == "read ahead":
            thread.join()
    assert sorted(opened) == sorted(make_arrays())
    assert opened[-1] == "observations"  # the largest is the last


def truncate(path):
    os.truncate(path, 10_000)


def replace(path):
    shutil.copy2(path, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def overwrite(path):
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"1234")


@pytest.mark.parametrize("change", [truncate, replace, overwrite, Path.unlink])
def test_a_file_that_changes_under_a_run_ends_it(tmp_path, columns, change):
    dataset = map_dataset(write(tmp_path / "data.npz", make_arrays()), None)
    dataset.take(np.arange(5))
    (folder,) = folders(columns)
    change(folder / "actions.npy")
    for use in (lambda: dataset.take(np.arange(5)), dataset.trajectory_returns, dataset.fingerprint):
        with pytest.raises(UserError, match=r"actions\.npy: .*while its numbers were in use"):
            use()


def test_a_file_that_changes_while_it_is_read(tmp_path, columns, monkeypatch):
    dataset = map_dataset(write(tmp_path / "data.npz", make_arrays()), None)
    (folder,) = folders(columns)
    gather = mapped.MappedDataset._gather

    def slow(self, key, rows):
        overwrite(folder / "observations.npy")
        return gather(self, key, rows)

    monkeypatch.setattr(mapped.MappedDataset, "_gather", slow)
    with pytest.raises(UserError, match=r"observations\.npy: changed"):
        dataset.take(np.arange(5))


def test_more_rows_than_a_fingerprints_block(tmp_path):
    rows = 50_000
    generator = np.random.default_rng(0)
    arrays = {
        "observations": generator.normal(size=(rows, 3)),
        "actions": generator.uniform(-1, 1, (rows, 2)),
        "rewards": np.arange(rows),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % 100 == 99,
    }
    path = write(tmp_path / "data.hdf5", arrays)
    assert map_dataset(path, None).fingerprint() == read_hdf5(path, None).fingerprint()


def narrow(of, bits, offset=0):
    kind = of.copy()
    kind.set_precision(bits)
    kind.set_offset(offset)
    return kind


def enumeration():
    kind = h5py.h5t.enum_create(h5py.h5t.NATIVE_INT8)
    for name, value in ((b"A", -4), (b"B", 5)):
        kind.enum_insert(name, value)
    return kind


@pytest.mark.parametrize(
    "kind",
    [
        narrow(h5py.h5t.STD_I16LE, 12),
        narrow(h5py.h5t.STD_I32BE, 12, offset=7),
        narrow(h5py.h5t.STD_I8LE, 5),
        enumeration(),
        h5py.h5t.STD_I64BE,
        h5py.h5t.IEEE_F16BE,
        h5py.h5t.IEEE_F64BE,
        h5py.h5t.py_create(np.dtype(np.longdouble)),
    ],
)
def test_numbers_of_odd_types_are_those_of_memory(tmp_path, kind):
    rewards = np.where(np.arange(ROWS) % 2, np.int8(-4), np.int8(5))
    path = write(tmp_path / "data.hdf5", make_arrays(rewards=None, timeouts=np.arange(ROWS) % 100 == 99))
    with h5py.File(path, "a") as file:
        array = h5py.h5d.create(file.id, b"rewards", kind, h5py.h5s.create_simple(rewards.shape))
        array.write(h5py.h5s.ALL, h5py.h5s.ALL, rewards.astype(array.dtype))
    in_memory, on_disk = read_hdf5(path, None), map_dataset(path, None)
    np.testing.assert_array_equal(in_memory.batch.rewards[:99], rewards[:99])
    np.testing.assert_array_equal(on_disk.take(np.arange(99)).rewards, rewards[:99])
    assert on_disk.fingerprint() == in_memory.fingerprint()
