"""Downloads from a server that misbehaves: what arrives, and what the user is told."""

import contextlib
import hashlib
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from xql_jax.data.loading import ATTEMPTS, CHECKSUMS, download_file
from xql_jax.errors import UserError


def hdf5_bytes(seed):
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content["noise"] = np.random.default_rng(seed).integers(0, 256, 100_000, np.uint8)
    return file.getvalue()


CONTENT, OTHER = hdf5_bytes(0), hdf5_bytes(1)


class FileServer:
    """Serves `CONTENT`; `plan` holds for the coming requests a status, headers, a body, how much is sent."""

    def __init__(self):
        self.plan = []
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer = {"status": 200, "headers": [], "body": CONTENT, "stop_after": None}
                answer |= server.plan.pop(0) if server.plan else {}
                server.requests += 1
                with contextlib.suppress(ConnectionError):
                    self.send_response(answer["status"])
                    for name, value in (*answer["headers"], ("Content-Length", str(len(answer["body"])))):
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(answer["body"][: answer["stop_after"]])

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/folder/data.hdf5"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.closing(FileServer()) as server:
        yield server


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the attempts
    return tmp_path / "a" / "folder" / "data.hdf5"  # neither is there yet


def fails(server, path, message):
    with pytest.raises(UserError, match=message) as error:
        download_file(server.url, path)
    assert list(path.parent.iterdir()) == []  # not even a part of it
    told = str(error.value)
    for each in (str(path), server.url, "--dataset_url=ADDRESS", "put the file there by hand"):
        assert each in told


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
    monkeypatch.setitem(CHECKSUMS, "data.hdf5", hashlib.sha256(CONTENT).hexdigest())
    server.plan = [{"body": OTHER}] * ATTEMPTS
    fails(server, path, hashlib.sha256(OTHER).hexdigest()[:20])
    download_file(server.url, path)
    assert path.read_bytes() == CONTENT


def test_the_kitchen_file_has_the_known_checksum(kitchen_file):
    assert hashlib.sha256(kitchen_file.read_bytes()).hexdigest() == CHECKSUMS[kitchen_file.name]


def test_no_server_at_all_and_no_password_in_the_message(path):
    server = FileServer()
    server.close()
    fails(server, path, "Connection refused")
    with pytest.raises(UserError, match=r"no-such-host\.invalid") as error:
        download_file("http://me:secret@no-such-host.invalid/data.hdf5", path)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "data.hdf5", "http:///a.hdf5", ""])
def test_other_addresses_are_refused(path, url):
    with pytest.raises(UserError, match="must begin with http:// or https://"):
        download_file(url, path)
    assert not path.parent.exists()


def test_a_folder_that_cannot_be_written_is_named(server, path):
    path.parent.parent.mkdir()
    path.parent.write_text("a file in its place")
    with pytest.raises(UserError, match=f"{path}.*D4RL_DATASET_DIR"):
        download_file(server.url, path)
