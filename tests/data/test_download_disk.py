"""Downloads beside other processes, and on a disk that is full, slow or fails."""

import errno
import json
import multiprocessing
import os
import resource
import threading

import pytest
from downloads import CONTENT, PATIENCE, SIZE, UNHURRIED, fails, interrupted, leave, names

from xql_jax.data import download as download_module
from xql_jax.data.download import download
from xql_jax.errors import UserError
from xql_jax.files import locked


def test_unwritable_folder(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    fails(server, tmp_path / "file" / "data.hdf5", "file/data.hdf5: cannot write the download")


@pytest.mark.parametrize("how", [{}, {"chunked": True}])
def test_full_disk(server, path, how):
    """What has been received stays if the size is known, and there was room for it when it was begun."""
    server.plan = [how]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # of any file, in bytes
    try:
        fails(server, path, r"cannot write the download of http.*data\.hdf5: File too large; make room")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(path) == ([] if how else ["data.hdf5.part", "data.hdf5.part.json"])
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["data.hdf5.part", "data.hdf5.part.json", "data.hdf5.part.json.tmp"])
def test_links_are_not_written_through(server, path, tmp_path, name):
    (tmp_path / "precious").write_bytes(bytes(10))
    path.parent.mkdir(parents=True)
    path.with_name(name).symlink_to(tmp_path / "precious")
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert (tmp_path / "precious").read_bytes() == bytes(10)


def test_a_link_for_a_lock_is_refused(server, path, tmp_path):
    (tmp_path / "precious").write_bytes(bytes(10))
    path.parent.mkdir(parents=True)
    path.with_name("data.hdf5.lock").symlink_to(tmp_path / "precious")
    fails(server, path, r"cannot write the download of .* \(.*data\.hdf5\.lock\); make room")
    assert (tmp_path / "precious").read_bytes() == bytes(10)


def test_another_process_that_does_not_get_on_is_told(server, path, monkeypatch):
    monkeypatch.setattr("xql_jax.files.LOCK_PATIENCE", 0.5)
    path.parent.mkdir(parents=True)
    with (
        locked(path.with_name("data.hdf5.lock")),
        pytest.raises(
            UserError, match=r"data\.hdf5\.lock: the process that holds it is downloading it, and has"
        ),
    ):
        download(server.url, path, PATIENCE)
    assert server.ranges == []


def test_a_file_larger_than_the_disk_is_not_begun(server, path):
    server.plan = [{"claim": 10**18}]
    with pytest.raises(
        UserError, match=r"the file needs 1,000,000,000,000 MB, .* are free; make room"
    ) as error:
        download(server.url, path, PATIENCE)
    assert str(path.parent) in str(error.value)
    assert names(path) == []


def test_threads_fetch_once(server, path, caplog):
    caplog.set_level("INFO", logger="xql_jax")
    server.plan = [{"slow": 0.5}]
    threads = [threading.Thread(target=download, args=(server.url, path, UNHURRIED)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]
    assert caplog.text.count("another process is downloading it, waiting") == 3
    assert names(path) == ["data.hdf5"]


def test_processes_fetch_once(server, path):
    server.plan = [{"slow": 0.5}]
    context = multiprocessing.get_context("fork")  # imports, seconds of them, are shared
    processes = [context.Process(target=download, args=(server.url, path, UNHURRIED)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]


def test_the_next_in_line_takes_over_from_one_that_fails(server, path):
    server.plan = [{"status": 404, "slow": 0.2}]
    failed = []

    def run():
        try:
            download(server.url, path, UNHURRIED)
        except UserError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(failed), server.ranges, names(path)) == (1, [None, None], ["data.hdf5"])


def test_a_lock_left_behind_locks_nobody_out(server, path):
    path.parent.mkdir(parents=True)
    path.with_name("data.hdf5.lock").touch()
    download(server.url, path, PATIENCE)
    assert names(path) == ["data.hdf5"]


def raising(pieces):
    """Yields the pieces, raises those that are errors."""
    for piece in pieces:
        if isinstance(piece, BaseException):
            raise piece
        yield piece


def test_an_interrupt_leaves_a_part_to_go_on_with(server, path, monkeypatch):
    real = download_module._append

    def append(part, pieces, total):
        real(part, raising([CONTENT[:1000], KeyboardInterrupt()]), total)

    monkeypatch.setattr(download_module, "_append", append)
    with pytest.raises(KeyboardInterrupt):
        download(server.url, path, PATIENCE)
    assert names(path) == ["data.hdf5.part", "data.hdf5.part.json"]
    about = json.loads(path.with_name("data.hdf5.part.json").read_text())
    assert about == {"url": server.url, "validator": '"first"', "total": SIZE, "synced": 1000}
    monkeypatch.setattr(download_module, "_append", real)
    download(server.url, path, PATIENCE)
    assert server.sent[1] == SIZE - 1000


@pytest.mark.parametrize("synced", [60_000, 7, 0, None, -3, "all"])
def test_what_the_disk_may_not_have_is_fetched_again(server, path, synced):
    """After a loss of power a file may have its length while its last blocks are zeros."""
    interrupted(server, path)
    known = synced if isinstance(synced, int) and synced > 0 else 0
    leave(path, CONTENT[:known] + bytes(80_000 - known), synced)
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={known}-" if known else None]


def test_the_part_is_noted_as_it_reaches_the_disk(server, path, monkeypatch):
    """A kill, at which nothing more is noted, costs what came after the last note at most."""
    monkeypatch.setattr(download_module, "SYNC_EVERY", 2500)
    noted = []

    def watched(pieces):
        for piece in pieces:
            noted.append(json.loads(path.with_name("data.hdf5.part.json").read_text())["synced"])
            yield piece

    real = download_module._append

    def append(part, pieces, total):
        real(part, watched(CONTENT[start : start + 1000] for start in range(0, SIZE, 1000)), total)

    monkeypatch.setattr(download_module, "_append", append)
    download(server.url, path, PATIENCE)
    assert noted[:8] == [0, 0, 0, 3000, 3000, 3000, 6000, 6000]
    assert path.read_bytes() == CONTENT


def test_the_file_is_on_the_disk_before_it_has_its_name(server, path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        place = os.readlink(f"/proc/self/fd/{descriptor}")
        events.append(("sync", os.path.basename(place), os.fstat(descriptor).st_size))
        fsync(descriptor)

    def watched_replace(source, target):
        events.append(("name", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    download(server.url, path, PATIENCE)
    named = events.index(("name", "data.hdf5"))
    assert events[named - 1] == ("sync", "data.hdf5.part", SIZE)
    assert events[named + 1][:2] == ("sync", "folder")


def test_a_disk_that_fails_to_sync_is_told(server, path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    fails(server, path, "cannot write the download.*Input/output error")


def test_a_file_system_without_syncing_is_no_obstacle(server, path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
