"""A server of one HDF5 file that misbehaves as it is told, request by request."""

import contextlib
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np


def hdf5_bytes(seed):
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content["noise"] = np.random.default_rng(seed).integers(0, 256, 100_000, np.uint8)
    return file.getvalue()


CONTENT, OTHER = hdf5_bytes(0), hdf5_bytes(1)


class FileServer:
    """Serves `content`; `plan` holds keyword arguments of `_answer` for the coming requests."""

    def __init__(self, content):
        self.content = content
        self.plan = []
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests += 1
                with contextlib.suppress(ConnectionError):
                    server._answer(self, **(server.plan.pop(0) if server.plan else {}))

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        serve = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        serve.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/folder/data.hdf5"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler, status=200, headers=(), body=None, stop_after=None):
        """Sends the body's first `stop_after` bytes, and claims that it has all."""
        body = self.content if body is None else body
        handler.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[:stop_after])
