"""Downloads: a file arrives whole or not at all."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from xql_jax.data.loading import download_file
from xql_jax.errors import UserError

FILE = io.BytesIO()
with h5py.File(FILE, "w") as content:
    content["noise"] = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8)
CONTENT = FILE.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers as the server says: a status, and a body, of which so many bytes are sent."""

    def do_GET(self):
        status, body, stop_after = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:stop_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answer = 200, CONTENT, None
        server.url = f"http://127.0.0.1:{server.server_port}/folder/data.hdf5"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_the_file_arrives_whole_and_alone(server, tmp_path):
    path = tmp_path / "a" / "folder" / "data.hdf5"  # neither is there yet
    download_file(server.url, path, "D4RL_DATASET_DIR")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o077 == 0o044  # others may read it


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, b"", None), "404"),
        ((200, CONTENT, 60_000), "60000|IncompleteRead"),  # broken off
        ((200, CONTENT[:-1000], None), "truncated"),
    ],
)
def test_what_is_not_the_file_is_refused(server, tmp_path, answer, message):
    server.answer = answer
    with pytest.raises(
        UserError, match=f"data.hdf5 cannot be downloaded from {server.url}: .*({message}).*FOLDER"
    ):
        download_file(server.url, tmp_path / "data.hdf5", "FOLDER")
    assert list(tmp_path.iterdir()) == []  # not even a part of it
