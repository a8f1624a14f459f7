"""What is written of a file that is used from disk: whole, once, and anew when the file has changed."""

import errno
import hashlib
import io
import logging
import os
import resource
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from mapped_files import READERS, ROWS, STORED, folders, make_arrays, write

from xql_jax.data import cache, load_dataset
from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.mapped import map_dataset
from xql_jax.data.npz import read_npz
from xql_jax.errors import UserError
from xql_jax.files import read_record

pytestmark = pytest.mark.usefixtures("short_passes", "columns")


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
    assert sorted(file.stem for file in folder.glob("*.npy")) == sorted(set(arrays) - {"extra"})
    for file in folder.glob("*.npy"):
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


@pytest.mark.slow
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


def test_a_record_tells_what_was_written(tmp_path, columns):
    path = write(tmp_path / "data.npz", make_arrays())
    map_dataset(path, None)
    (folder,) = folders(columns)
    record = read_record(folder / "columns.json")
    assert record["source"] == str(path)
    for key in make_arrays():
        content = (folder / f"{key}.npy").read_bytes()
        size, _, digest = record["files"][key]
        assert (size, digest) == (len(content), hashlib.sha256(content).hexdigest())
    (folder / "columns.json").unlink()
    with pytest.raises(UserError, match=r"damaged .*columns\.json: missing.*delete it"):
        map_dataset(path, None)


def test_bytes_are_gone_through_where_the_time_is_another(tmp_path, columns, monkeypatch):
    path = write(tmp_path / "data.npz", make_arrays())
    fingerprint = map_dataset(path, None).fingerprint()
    (folder,) = folders(columns)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_digest", lambda _: pytest.fail("not on every start"))
        map_dataset(path, None)
    os.utime(folder / "rewards.npy")
    assert map_dataset(path, None).fingerprint() == fingerprint  # as after a copy
    with (folder / "rewards.npy").open("r+b") as file:
        file.seek(1000)
        file.write(b"1")
    with pytest.raises(UserError, match=r"damaged .*rewards\.npy has other bytes than were written"):
        map_dataset(path, None)


def test_an_archive_that_holds_less_than_it_claims(tmp_path, columns):
    """Its directory gives the size of what is unpacked, and a packed array may end before."""
    path = tmp_path / "data.npz"
    whole = io.BytesIO()
    np.lib.format.write_array(whole, np.zeros((ROWS, 3), np.float32))
    cut = whole.getvalue()[:30_000]
    write(path, make_arrays(observations=None), compressed=True)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("observations.npy", cut)
    content = path.read_bytes()
    size = len(cut).to_bytes(4, "little")
    path.write_bytes(content.replace(size, len(whole.getvalue()).to_bytes(4, "little")))
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("observations.npy").file_size == len(whole.getvalue())
    for data_on in ("host", "disk"):
        with pytest.raises(UserError, match=r"data\.npz: (damaged: of observations|not a readable)"):
            load_dataset(None, [str(path)], data_on=data_on)
    assert folders(columns) == []


@pytest.mark.parametrize("name", ["columns.lock", "columns.tmp"])
def test_a_link_in_its_place_is_not_followed(tmp_path, columns, name):
    path = write(tmp_path / "data.npz", make_arrays())
    map_dataset(path, None)
    (folder,) = folders(columns)
    shutil.rmtree(folder)
    folder.with_name(folder.name + ".lock").unlink(missing_ok=True)
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine")
    folder.with_name(folder.name + name.removeprefix("columns")).symlink_to(target)
    with pytest.raises(UserError, match="cannot write the arrays of"):
        map_dataset(path, None)
    assert (target / "mine").read_text() == "mine"


def test_a_map_that_the_system_refuses(tmp_path, columns, monkeypatch):
    path = write(tmp_path / "data.npz", make_arrays())
    map_dataset(path, None)

    def refuse(*_, **__):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(UserError, match=r"data\.npz: the system does not map .*Cannot allocate memory"):
        map_dataset(path, None)
