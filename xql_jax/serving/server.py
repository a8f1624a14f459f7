"""An HTTP server for a few fixed paths, reachable only from this machine, that no client can block.

It reads no files: a request gets one of the prepared answers, or one line with an error. It sets limits that
the standard library's server lacks: the time for receiving a request and for sending an answer, the number of
connections at once, and the host names under which it answers.
"""

import io
import logging
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from xql_jax.errors import UserError, printable
from xql_jax.serving.live import Answer

LOG = logging.getLogger(__name__)
ADDRESS = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost")  # any other name would be a page of another site (DNS rebinding)
LONGEST_TARGET = 2_000  # bytes
LONGEST_REQUEST = 16_000  # bytes, with its headers
REQUEST_SECONDS, ANSWER_SECONDS = 5.0, 60.0  # limits for receiving a request and for sending an answer
MOST_AT_ONCE = 128  # connections, each with a thread; others wait until one of them ends
SENT_AT_ONCE = 65_536  # bytes
DRAIN_SECONDS, MOST_DRAINED = 0.5, 1_000_000  # limits in seconds and bytes for the rest of a bad request
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Connection": "close",
}

Answers = Callable[[], Mapping[str, Answer]]


class LocalServer(socketserver.ThreadingTCPServer):
    """Serves the answers at http://127.0.0.1:PORT/.

    Args:
        answers: returns the answers by path; called at every request. A UserError becomes the answer.
        port: 0 takes a free one.
    Raises:
        UserError: if the port cannot be used.
    """

    allow_reuse_address = True
    daemon_threads = True  # an unfinished answer does not delay the program's end
    block_on_close = False
    request_queue_size = 128

    def __init__(self, answers: Answers, port: int):
        self.answers = answers
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise UserError(f"--port={port}: cannot be used: {error.strerror}; give another, or 0") from error

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(timeout=REQUEST_SECONDS):  # all threads are busy
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError as error:  # no thread can be started
            self._free.release()
            LOG.warning(f"a request was refused: {error}")
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs an error of the program. A client that has closed its connection is not an error."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            LOG.error("a request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request, then closes the connection."""

    server: LocalServer
    protocol_version = "HTTP/1.1"
    rfile: io.BytesIO  # the request's head

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BytesIO(self._request())

    def handle(self) -> None:
        """Answers the request; a client that sent none in time gets no answer."""
        head = self.rfile.getvalue()
        self.command, self.request_version, self.requestline = "", "HTTP/1.1", ""
        if head and not head.endswith((b"\r\n\r\n", b"\n\n")):
            is_line = b"\n" not in head
            self.send_error(
                HTTPStatus.REQUEST_URI_TOO_LONG if is_line else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            )
            self._drain()
        elif head:
            self.raw_requestline = self.rfile.readline()
            if self.parse_request():  # else it has sent the error
                self._answer()
        self.close_connection = True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers with one line that says what is wrong. It quotes nothing from the request."""
        what = f"{int(code)} {HTTPStatus(code).phrase}"
        line = f"error: {what}: this serves {', '.join(PATHS)} to GET and HEAD\n"
        self._send(HTTPStatus(code), "text/plain", line.encode())

    def version_string(self) -> str:
        """Returns the server's name, without versions."""
        return "xql_jax"

    def log_message(self, format: str, *args: Any) -> None:
        LOG.debug(printable(format % args, 300))

    def _answer(self) -> None:
        if self.command not in ("GET", "HEAD"):
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)
            return self._drain()
        host = (self.headers.get("Host") or HOSTS[0]).rsplit(":", 1)[0]
        if host.lower() not in HOSTS or len(self.headers.get_all("Host", [])) > 1:
            return self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        if len(self.path) > LONGEST_TARGET:
            return self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        path = self.path.split("?", 1)[0]
        if path not in PATHS:
            return self.send_error(HTTPStatus.NOT_FOUND)
        try:
            answer = self.server.answers()[path]
        except UserError as error:
            return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", f"error: {error}\n".encode())
        return self._send(HTTPStatus.OK, answer.kind, answer.content)

    def _request(self) -> bytes:
        """Returns the request's head, the beginning of one that is too long, or b"" if none comes in time."""
        end, head = time.monotonic() + REQUEST_SECONDS, b""
        while len(head) < LONGEST_REQUEST:
            read = self._received(end, LONGEST_REQUEST - len(head))
            head += read
            for close in (b"\r\n\r\n", b"\n\n"):
                if close in head:
                    return head[: head.index(close) + len(close)]
            if not read:
                return b""
        return head

    def _drain(self) -> None:
        """Reads some more input, because closing the connection with input unread would lose the answer."""
        end = time.monotonic() + DRAIN_SECONDS
        for _ in range(MOST_DRAINED // SENT_AT_ONCE):
            if not self._received(end, SENT_AT_ONCE):
                return

    def _received(self, end: float, most: int) -> bytes:
        """Returns the next input, at most `most` bytes; b"" if none comes before `end` (monotonic time)."""
        left = end - time.monotonic()
        if left <= 0:
            return b""
        self.connection.settimeout(left)
        try:
            return self.connection.recv(most)
        except OSError:
            return b""

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        end = time.monotonic() + ANSWER_SECONDS
        for start in range(0, len(content), SENT_AT_ONCE):
            self.connection.settimeout(max(0.001, end - time.monotonic()))
            self.connection.sendall(content[start : start + SENT_AT_ONCE])


# All paths that are served; any other path is an error.
PATHS = ("/", "/index.html", "/scores.csv", "/statistics.csv", "/runs.csv", "/scores.tex", "/stamp")
