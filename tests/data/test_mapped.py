"""A mapped file against the same file read into memory: the same transitions, bit for bit."""

import errno
import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from xql_jax.data import cache, d4rl_hdf5, load_dataset, mapped, npz
from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.mapped import map_dataset
from xql_jax.data.npz import read_npz
from xql_jax.errors import UserError

ROWS = 5000


def make_arrays(**changes):
    generator = np.random.default_rng(0)
    arrays = {
        "observations": generator.normal(size=(ROWS, 3)).astype(np.float32),
        "actions": generator.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        "rewards": generator.normal(size=ROWS).astype(np.float32),
        "terminals": generator.random(ROWS) < 0.01,
        "timeouts": generator.random(ROWS) < 0.02,  # some follow one another, or a terminal
    }
    arrays["timeouts"][:2] = arrays["timeouts"][-2:] = True
    return {key: array for key, array in {**arrays, **changes}.items() if array is not None}


def write(path, arrays, **options):
    if path.suffix == ".npz":
        (np.savez_compressed if options else np.savez)(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file.create_dataset(key, data=array, **options)
    return path


READERS = {".hdf5": read_hdf5, ".npz": read_npz}
CHANGES = {
    "D4RL's layout": {},
    "no time-outs": {"timeouts": None},
    "float64 and a column": {
        "rewards": np.random.default_rng(1).normal(size=(ROWS, 1)),
        "observations": np.random.default_rng(2).normal(size=(ROWS, 3)),
    },
    "numbers for truths": {
        "terminals": np.arange(ROWS) % 70 == 69.0,
        "timeouts": (np.arange(ROWS) % 100 == 99).astype(np.int64),
    },
}


STORED = {  # as the bytes in memory, or packed
    "contiguous": (".hdf5", {}),
    "chunks": (".hdf5", {"chunks": (617, 1)}),
    "compressed chunks": (".hdf5", {"chunks": True, "compression": "gzip", "shuffle": True}),
    "one chunk": (".hdf5", {"chunks": (ROWS, 1)}),
    "stored npz": (".npz", {}),
    "compressed npz": (".npz", {"compressed": True}),
}


@pytest.fixture(autouse=True)
def short_passes(monkeypatch):
    monkeypatch.setattr(mapped, "ROWS_A_PASS", 617)
    for module in (d4rl_hdf5, npz):
        monkeypatch.setattr(module, "BLOCK", 10_000)


@pytest.fixture(autouse=True)
def columns(tmp_path, monkeypatch):
    """Where the columns go."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "columns"


def folders(columns):
    return sorted(path for path in columns.iterdir() if path.is_dir())


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
def test_the_columns_are_the_arrays_of_the_file(tmp_path, columns, caplog, how):
    suffix, options = STORED[how]
    arrays = make_arrays(rewards=np.arange(ROWS, dtype=">i2"), extra=np.zeros(9))
    options = {key: value for key, value in options.items() if key != "chunks"}
    path = write(tmp_path / f"data{suffix}", arrays, **options)
    with caplog.at_level(logging.INFO):
        map_dataset(path, None)
    (folder,) = folders(columns)
    assert f"writing its arrays, 0 MB, to {folder}" in caplog.text
    assert sorted(file.stem for file in folder.iterdir()) == sorted(set(arrays) - {"extra"})
    for file in folder.iterdir():
        column = np.load(file, allow_pickle=False)
        assert column.dtype == arrays[file.stem].dtype
        np.testing.assert_array_equal(column, arrays[file.stem])


@pytest.mark.parametrize("suffix", READERS)
def test_a_file_is_written_once_and_again_when_it_has_changed(tmp_path, columns, monkeypatch, suffix):
    path = write(tmp_path / f"data{suffix}", make_arrays())
    first = map_dataset(path, None)
    (folder,) = folders(columns)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_write", lambda *_: pytest.fail("written again"))
        link = tmp_path / f"link{suffix}"
        link.symlink_to(path)
        for same in (path, link):
            assert map_dataset(same, None).fingerprint() == first.fingerprint()
    arrays = make_arrays()
    arrays["rewards"] += 1
    status = path.stat()
    write(path, arrays)  # of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert path.stat().st_size == status.st_size
    second = map_dataset(path, None)
    assert (
        second.take(np.arange(5)).rewards.tobytes() == READERS[suffix](path, None).batch.rewards[:5].tobytes()
    )
    assert len(folders(columns)) == 2
    assert folder in folders(columns)


def test_two_files_of_one_name_have_their_own_columns(tmp_path, columns):
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        arrays = make_arrays(rewards=np.full(ROWS, number, np.float32))
        dataset = map_dataset(write(tmp_path / str(number) / "data.npz", arrays), None)
        assert dataset.take(np.arange(3)).rewards.tolist() == [number] * 3
    assert len(folders(columns)) == 2


class Broken(BaseException):
    """Stands for whatever ends a process in the midst: no handler of errors catches it."""


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("error", [Broken(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_is_cut_off_leaves_nothing_that_is_taken_for_whole(
    tmp_path, columns, monkeypatch, suffix, error
):
    path = write(tmp_path / f"data{suffix}", make_arrays())
    synced = []

    def sync(path):
        synced.append(path)
        if len(synced) == 3:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(cache, "sync", sync)
        with pytest.raises((Broken, UserError), match=None if isinstance(error, Broken) else "No space left"):
            map_dataset(path, None)
    assert len({path.parent for path in synced}) == 1
    assert folders(columns) == []
    assert map_dataset(path, None).fingerprint() == READERS[suffix](path, None).fingerprint()


def test_what_a_killed_process_has_left_is_no_hindrance(tmp_path, columns):
    path = write(tmp_path / "data.npz", make_arrays())
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom xql_jax.data import cache, mapped\n"
        "cache.sync = lambda path: path.stem == 'rewards' and os.kill(os.getpid(), signal.SIGKILL)\n"
        "mapped.map_dataset(Path(sys.argv[1]), None)"
    )
    process = subprocess.run([sys.executable, "-c", script, str(path)], env={**os.environ})
    assert process.returncode == -9
    (left,) = folders(columns)
    assert {file.stem for file in left.iterdir()} >= {"observations", "rewards"}
    assert map_dataset(path, None).fingerprint() == read_npz(path, None).fingerprint()
    assert not left.exists()
    assert len(folders(columns)) == 1


def test_several_processes_at_once_write_once(tmp_path, columns):
    path = write(tmp_path / "data.hdf5", make_arrays(), compression="gzip")
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom xql_jax.data import cache, mapped\n"
        "real = cache._write_locked\n"
        "def slow(*arguments):\n    print('writes', flush=True)\n    time.sleep(0.5)\n    real(*arguments)\n"
        "cache._write_locked = slow\n"
        "sys.stdin.readline()\n"
        "print(mapped.map_dataset(Path(sys.argv[1]), None).fingerprint())"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", script, str(path)], **pipes) for _ in range(3)]
    outputs = []
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        outputs += process.communicate(timeout=120)[0].split()
    assert sorted(outputs) == sorted(["writes", *[read_hdf5(path, None).fingerprint()] * 3])
    assert len(folders(columns)) == 1


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, columns, monkeypatch):
    path = write(tmp_path / "data.hdf5", make_arrays())
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        UserError, match=r"need 0 MB, 0 MB are free; make room.*D4RL_DATASET_DIR.*data_on=host"
    ):
        map_dataset(path, None)
    assert folders(columns) == []


@pytest.mark.parametrize("suffix", READERS)
def test_a_disk_that_takes_no_more_meanwhile(tmp_path, columns, suffix):
    path = write(tmp_path / f"data{suffix}", make_arrays())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write the arrays of .*File too large"):
            map_dataset(path, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folders(columns) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path, columns):
    columns.parent.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot write the arrays of .*data\.hdf5"):
        map_dataset(write(tmp_path / "data.hdf5", make_arrays()), None)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path, columns, monkeypatch):
    path = write(tmp_path / "data.hdf5", make_arrays())
    monkeypatch.setattr(cache, "sync", lambda _: os.utime(path, ns=(0, 0)))
    with pytest.raises(UserError, match="changed while"):
        map_dataset(path, None)
    assert folders(columns) == []


def test_a_damaged_column_is_told(tmp_path, columns):
    path = write(tmp_path / "data.hdf5", make_arrays())
    map_dataset(path, None)
    (folder,) = folders(columns)
    os.truncate(folder / "actions.npy", 1000)
    with pytest.raises(UserError, match=f"{folder}: damaged .*delete it"):
        map_dataset(path, None)


@pytest.mark.parametrize("kind", ["external link", "link to one", "external storage", "virtual dataset"])
def test_numbers_outside_of_the_file_are_refused(tmp_path, columns, kind):
    """The file's own time would not tell when they change. In memory they are read as ever."""
    arrays = make_arrays()
    rewards = arrays.pop("rewards")
    write(tmp_path / "other.hdf5", {"rewards": rewards, "group/rewards": rewards})
    path = write(tmp_path / "data.hdf5", arrays)
    with h5py.File(path, "a") as file:
        if kind == "external link":
            file["rewards"] = h5py.ExternalLink("other.hdf5", "rewards")
        elif kind == "link to one":
            file["group"] = h5py.ExternalLink("other.hdf5", "group")
            file["rewards"] = h5py.SoftLink("/group/rewards")
        elif kind == "external storage":
            (tmp_path / "raw").write_bytes(rewards.tobytes())
            raw = [(str(tmp_path / "raw"), 0, rewards.nbytes)]
            file.create_dataset("rewards", rewards.shape, rewards.dtype, external=raw)
        else:
            layout = h5py.VirtualLayout(rewards.shape, rewards.dtype)
            layout[:] = h5py.VirtualSource(tmp_path / "other.hdf5", "rewards", rewards.shape)
            file.create_virtual_dataset("rewards", layout)
    with pytest.raises(UserError, match=r"data\.hdf5: rewards lies in another file.*--data_on=host"):
        map_dataset(path, None)
    assert not columns.exists()
    kept = ~arrays["timeouts"][:-1]
    np.testing.assert_array_equal(read_hdf5(path, None).batch.rewards, rewards[:-1][kept])


def test_a_link_within_the_file_is_as_good_as_its_array(tmp_path):
    arrays = make_arrays()
    path = write(
        tmp_path / "data.hdf5", {"mine" if key == "rewards" else key: a for key, a in arrays.items()}
    )
    with h5py.File(path, "a") as file:
        file["rewards"] = h5py.SoftLink("/mine")
    assert map_dataset(path, None).fingerprint() == read_hdf5(path, None).fingerprint()


def test_columns_first_is_refused(tmp_path, columns):
    path = write(tmp_path / "data.npz", make_arrays(observations=np.asfortranarray(np.ones((ROWS, 3)))))
    with pytest.raises(UserError, match=r"data\.npz: observations is not stored row by row.*--data_on=host"):
        map_dataset(path, None)
    assert not columns.exists()


@pytest.mark.parametrize("options", [{}, {"compressed": True}])
def test_a_flipped_byte_in_an_archive_is_found(tmp_path, columns, options):
    path = write(tmp_path / "data.npz", make_arrays(), **options)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("actions.npy").header_offset + 20_000
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.npz: not a readable \.npz archive"):
        map_dataset(path, None)
    assert folders(columns) == []


@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize(("on_disk", "room"), [(True, 1 << 40), (None, 100_000), (None, 1 << 40)])
def test_it_is_chosen_by_itself_where_memory_has_no_room(tmp_path, monkeypatch, how, on_disk, room):
    suffix, options = STORED[how]
    options = {key: value for key, value in options.items() if key != "chunks"}
    path = write(tmp_path / f"data{suffix}", make_arrays(), **options)
    monkeypatch.setattr("xql_jax.data.memory.available_memory", lambda: room)
    dataset = load_dataset(None, [str(path)], on_disk=on_disk)
    assert isinstance(dataset, mapped.MappedDataset) == (on_disk is True or room == 100_000)
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
