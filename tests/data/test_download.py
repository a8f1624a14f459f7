"""Downloads from a server that misbehaves: what is asked for, what arrives, what the user is told."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import threading
import types

import h5py
import numpy as np
import pytest
from file_server import FileServer

from xql_jax.data import download as download_module
from xql_jax.data.download import Patience, download
from xql_jax.errors import UserError

PATIENCE = Patience(connect_seconds=1.0, stall_seconds=0.4, attempts=3, pause_seconds=0.01)
UNHURRIED = Patience(stall_seconds=30.0)


def hdf5_bytes(seed):
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content["noise"] = np.random.default_rng(seed).integers(0, 256, 100_000, np.uint8)
    return file.getvalue()


CONTENT, OTHER = hdf5_bytes(0), hdf5_bytes(1)
SIZE = len(CONTENT)
assert len(OTHER) == SIZE


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    server = FileServer(CONTENT)
    yield server
    server.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a" / "folder" / "data.hdf5"  # neither is there yet


def names(path):
    return sorted(found.name for found in path.parent.iterdir())


def fails(server, path, message):
    with pytest.raises(UserError, match=message) as error:
        download(server.url, path, PATIENCE)
    assert not path.exists()
    assert server.url in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("how", [{}, {"chunked": True}, {"slow": 0.05}])
def test_the_file_arrives_whole_and_alone(server, path, capsys, how):
    server.plan = [how]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert names(path) == ["data.hdf5"]
    assert server.ranges == [None]
    assert capsys.readouterr().out == f"downloading {server.url} to {path}\n"


def test_a_file_at_hand_makes_no_request(server, path, capsys):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"whatever it is")
    download(server.url, path, PATIENCE)
    assert (server.ranges, path.read_bytes(), capsys.readouterr().out) == ([], b"whatever it is", "")


@pytest.mark.parametrize("stall", [True, False])
def test_after_a_break_only_the_rest_is_sent(server, path, stall):
    server.plan = [{"stop_after": 60_000, "stall": stall}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=60000-"]
    assert server.sent == [60_000, SIZE - 60_000]
    assert names(path) == ["data.hdf5"]


def test_a_connection_that_always_breaks_but_gets_on_is_not_given_up(server, path):
    server.plan = [{"stop_after": 10_000}] * 9  # three times the attempts
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.sent == [*[10_000] * 9, SIZE - 90_000]


def test_a_stall_is_an_error_and_the_next_run_goes_on(server, path, capsys):
    server.plan = [{"stop_after": 60_000, "stall": True}, *[{"stop_after": 0, "stall": True}] * 9]
    message = fails(server, path, "the server has sent nothing for 0.4 s; 60,000 bytes are kept")
    assert f"put the file at {path} by hand, or name a mirror with --dataset_url=ADDRESS" in message
    assert len(server.ranges) == 4  # one that brought something, three in a row that did not
    assert path.with_name("data.hdf5.part").read_bytes() == CONTENT[:60_000]
    assert capsys.readouterr().out.count("trying again in") == 3
    server.plan = []
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.sent[-1] == SIZE - 60_000
    assert ", going on after 0.1 MB" in capsys.readouterr().out
    assert names(path) == ["data.hdf5"]


def interrupted(server, path):
    """Leaves 60,000 bytes of the file, as a run that was killed does."""
    server.plan = [{"stop_after": 60_000}, *[{"status": 503}] * 3]
    fails(server, path, "503")
    server.plan, server.ranges[:], server.sent[:] = [], [], []


def test_a_server_without_ranges_sends_all_again(server, path):
    interrupted(server, path)
    server.plan = [{"know_ranges": False}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert (server.ranges, server.sent) == (["bytes=60000-"], [SIZE])


def test_a_file_that_has_changed_is_fetched_anew(server, path):
    interrupted(server, path)
    server.content, server.etag = OTHER, '"second"'
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == OTHER
    assert server.sent == [SIZE]


def test_a_changed_size_is_noticed_where_if_range_is_ignored(server, path):
    interrupted(server, path)
    server.content = CONTENT + bytes(7)  # under the same ETag
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT + bytes(7)
    assert server.ranges == ["bytes=60000-", None]


def test_a_mirror_does_not_go_on_with_another_servers_bytes(server, path):
    interrupted(server, path)
    mirror = FileServer(OTHER)
    download(mirror.url, path, PATIENCE)
    mirror.close()
    assert path.read_bytes() == OTHER
    assert mirror.ranges == [None]


def test_a_wrong_range_is_not_put_into_the_file(server, path):
    interrupted(server, path)
    server.plan = [{"wrong_range": True}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=60000-", None]


def leave(path, content, synced):
    """Makes `content` of the part, of which the disk is said to have `synced` bytes."""
    path.with_name("data.hdf5.part").write_bytes(content)
    about = path.with_name("data.hdf5.part.json")
    about.write_text(json.dumps({**json.loads(about.read_text()), "synced": synced}))


def test_a_part_that_is_whole_needs_no_more_bytes(server, path):
    interrupted(server, path)
    leave(path, CONTENT, SIZE)
    download(server.url, path, PATIENCE)  # the server answers 416
    assert path.read_bytes() == CONTENT
    assert (server.ranges, server.sent) == ([f"bytes={SIZE}-"], [0])


def test_a_part_longer_than_the_file_is_thrown_away(server, path):
    interrupted(server, path)
    leave(path, CONTENT + b"more", SIZE + 4)
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.sent == [0, SIZE]


@pytest.mark.parametrize("about", [b"", b"no json \xff", b"[1]", b'{"url": 3}'])
def test_a_part_of_unknown_origin_is_not_gone_on_with(server, path, about):
    interrupted(server, path)
    path.with_name("data.hdf5.part.json").write_bytes(about)
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]


@pytest.mark.parametrize("etag", ['W/"weak"', ""])
def test_without_a_validator_there_is_no_resuming(server, path, etag):
    server.etag = etag  # a weak one stands for the same meaning, not for the same bytes
    server.plan = [{"stop_after": 60_000}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert (server.ranges, server.sent) == ([None, None], [60_000, SIZE])


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_told_at_once(server, path, status):
    server.plan = [{"status": status}]
    message = fails(server, path, f"the server answers {status}")
    assert str(path) in message
    assert "--dataset_url=ADDRESS" in message
    assert len(server.ranges) == 1
    assert names(path) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_overloaded_server_is_asked_again(server, path, status):
    server.plan = [{"status": status}] * 2
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    path.unlink()
    server.plan = [{"status": status}] * 9
    server.ranges.clear()
    fails(server, path, f"the server answers {status}")
    assert len(server.ranges) == PATIENCE.attempts


def test_redirections_are_followed(server, path):
    server.plan = [{"status": 302, "headers": [("Location", "/elsewhere")]}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT


def test_a_circle_of_redirections_ends(server, path):
    server.plan = [{"status": 302, "headers": [("Location", "/around")]}] * 40
    fails(server, path, "cannot be fetched.*30 redirects")


def test_a_redirection_to_a_local_file_is_not_followed(server, path, tmp_path):
    (tmp_path / "secret").write_bytes(CONTENT)
    server.plan = [{"status": 302, "headers": [("Location", f"file://{tmp_path}/secret")]}]
    fails(server, path, "cannot be fetched")


def test_a_page_instead_of_the_file_is_refused(server, path):
    page = b"<html>please log in</html>"
    server.plan = [{"status": 200, "body": page, "headers": [("Content-Type", "text/html")]}]
    fails(server, path, "not HDF5 but text/html")
    assert names(path) == []  # nothing to go on with


def test_a_length_that_is_too_great_is_not_believed(server, path):
    server.plan = [{"claim": SIZE + 1000, "stop_after": None}] * 9
    fails(server, path, "the server has another file than before")  # for it has nothing beyond SIZE
    assert server.ranges == [None, f"bytes={SIZE}-", None, f"bytes={SIZE}-"]


def test_a_length_that_is_too_small_is_a_damaged_file(server, path):
    server.plan = [{"claim": SIZE - 1000}]
    fails(server, path, "damaged HDF5 file .*truncated")
    assert names(path) == []


def test_the_checksum_is_compared_where_it_is_known(server, path, monkeypatch):
    monkeypatch.setitem(download_module.CHECKSUMS, "data.hdf5", hashlib.sha256(CONTENT).hexdigest())
    server.content = OTHER
    fails(server, path, f"has the sha256 {hashlib.sha256(OTHER).hexdigest()}")
    assert names(path) == []
    server.content = CONTENT
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT


def test_the_kitchen_file_has_the_known_checksum(kitchen_file):
    known = download_module.CHECKSUMS["mini_kitchen_microwave_kettle_light_slider-v0.hdf5"]
    assert hashlib.sha256(kitchen_file.read_bytes()).hexdigest() == known


def test_no_server_at_all(path):
    server = FileServer(CONTENT)
    server.close()
    message = fails(server, path, "the connection failed")
    assert "Connection refused" in message
    assert "object at 0x" not in message


def test_unknown_host_is_one_readable_line(path):
    with pytest.raises(UserError, match=r"the connection failed \(.*resol") as error:
        download("http://no-such-host.invalid/data.hdf5", path, PATIENCE)
    assert "object at 0x" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b.hdf5", "data.hdf5", "http:///data.hdf5", ""]
)
def test_other_addresses_are_refused(path, url):
    with pytest.raises(UserError, match="must begin with http:// or https://"):
        download(url, path, PATIENCE)
    assert not path.parent.exists()


def test_an_address_that_makes_no_sense(path):
    with pytest.raises(UserError, match="cannot be fetched"):
        download("http://[::1/data.hdf5", path, PATIENCE)


def test_unwritable_folder(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    fails(server, tmp_path / "file" / "data.hdf5", "file/data.hdf5: cannot write the download")


def test_full_disk(server, path):
    path.parent.mkdir(parents=True)
    path.with_name("data.hdf5.part").symlink_to("/dev/full")
    fails(server, path, "cannot write the download.*No space left on device")


def test_a_file_larger_than_the_disk_is_not_begun(server, path):
    server.plan = [{"claim": 10**18}]
    with pytest.raises(
        UserError, match=r"the file needs 1,000,000,000,000 MB, .* are free; make room"
    ) as error:
        download(server.url, path, PATIENCE)
    assert str(path.parent) in str(error.value)
    assert names(path) == []


def test_threads_fetch_once(server, path, capsys):
    server.plan = [{"slow": 0.5}]
    threads = [threading.Thread(target=download, args=(server.url, path, UNHURRIED)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]
    assert capsys.readouterr().out.count("another process is downloading it, waiting") == 3
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


class Raw:
    """Of a response: gives these chunks, raises those that are errors, then ends."""

    def __init__(self, chunks):
        self.chunks = list(chunks)

    def read1(self, size):
        chunk = self.chunks.pop(0) if self.chunks else b""
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk


def test_an_interrupt_leaves_a_part_to_go_on_with(server, path, monkeypatch):
    real = download_module._append

    def append(part, response, total):
        real(part, types.SimpleNamespace(raw=Raw([CONTENT[:1000], KeyboardInterrupt()])), total)

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

    class Watched(Raw):
        def read1(self, size):
            noted.append(json.loads(path.with_name("data.hdf5.part.json").read_text())["synced"])
            return super().read1(size)

    real = download_module._append

    def append(part, response, total):
        chunks = [CONTENT[start : start + 1000] for start in range(0, SIZE, 1000)]
        real(part, types.SimpleNamespace(raw=Watched(chunks)), total)

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


@pytest.mark.parametrize("etag", ['"first"', 'W/"weak"', ""])
def test_only_bytes_that_the_next_run_can_use_are_called_kept(server, path, etag):
    server.etag = etag
    server.plan = [{"stop_after": 60_000}, *[{"status": 503}] * 9]
    message = fails(server, path, "the server answers 503")
    assert ("60,000 bytes are kept" in message) == (etag == '"first"')
    assert "; put the file at" in message
