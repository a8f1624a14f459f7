"""Downloads from a server that misbehaves: what arrives, and what the user is told."""

import hashlib

import pytest
from file_server import CONTENT, OTHER, FileServer

from xql_jax.data import download as download_module
from xql_jax.data.download import ATTEMPTS, download_file
from xql_jax.errors import UserError


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the attempts
    return tmp_path / "a" / "folder" / "data.hdf5"  # neither is there yet


def fails(server, path, message):
    with pytest.raises(UserError, match=message) as error:
        download_file(server.url, path)
    assert list(path.parent.iterdir()) == []  # not even a part of it
    told = str(error.value)
    assert str(path) in told
    assert server.url in told
    assert "--dataset_url=ADDRESS" in told
    assert "put the file there by hand" in told


REDIRECTION = {"status": 302, "headers": [("Location", "/elsewhere")], "body": b""}


@pytest.mark.parametrize("plan", [[], [{"status": 503}] * 2, [{"stop_after": 60_000}], [REDIRECTION]])
def test_the_file_arrives_whole_and_alone(server, path, plan):
    server.plan = list(plan)
    download_file(server.url, path)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert server.requests == len(plan) + 1
    assert path.stat().st_mode & 0o077 == 0o044  # others may read it
    path.write_bytes(b"whatever it is")
    download_file(server.url, path)
    assert server.requests == len(plan) + 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"status": 404}, "404"),
        ({"status": 503}, "503"),
        ({"stop_after": 60_000}, "60000|IncompleteRead"),
        ({"body": b"<html>please log in</html>"}, "signature"),
        ({"body": CONTENT[:-1000]}, "truncated"),
    ],
)
def test_what_is_not_the_file_is_refused(server, path, answer, message):
    server.plan = [answer] * ATTEMPTS
    fails(server, path, message)


def test_the_checksum_is_compared_where_it_is_known(server, path, monkeypatch):
    monkeypatch.setitem(download_module.CHECKSUMS, "data.hdf5", hashlib.sha256(CONTENT).hexdigest())
    server.content = OTHER
    fails(server, path, hashlib.sha256(OTHER).hexdigest()[:20])
    server.content = CONTENT
    download_file(server.url, path)
    assert path.read_bytes() == CONTENT


def test_the_kitchen_file_has_the_known_checksum(kitchen_file):
    known = download_module.CHECKSUMS["mini_kitchen_microwave_kettle_light_slider-v0.hdf5"]
    assert hashlib.sha256(kitchen_file.read_bytes()).hexdigest() == known


def test_no_server_at_all(path):
    server = FileServer(CONTENT)
    server.close()
    fails(server, path, "Connection refused")


def test_a_password_is_not_shown(path):
    with pytest.raises(UserError) as error:
        download_file("http://me:secret@no-such-host.invalid/data.hdf5", path)
    assert "secret" not in str(error.value)
    assert "no-such-host.invalid" in str(error.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b.hdf5", "data.hdf5", "http:///a.hdf5", ""])
def test_other_addresses_are_refused(path, url):
    with pytest.raises(UserError, match="must begin with http:// or https://"):
        download_file(url, path)
    assert not path.parent.exists()


def test_a_folder_that_cannot_be_written_is_named(server, path):
    path.parent.parent.mkdir()
    path.parent.write_text("a file in its place")
    with pytest.raises(UserError, match=f"{path}.*D4RL_DATASET_DIR"):
        download_file(server.url, path)
