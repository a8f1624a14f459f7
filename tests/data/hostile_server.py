"""A server that means ill: by name, what it sends to each request, piece by piece, perhaps without an end.

`HostileServer(ANSWERS[name])` serves it at `.url`; nothing it says is fit to become a file.
"""

import contextlib
import itertools
import socket
import threading
import time

SLOWLY = 0.02  # seconds between bytes of what comes byte by byte
OK = b"HTTP/1.1 200 OK\r\n"
PLENTY = bytes(1 << 16)


class HostileServer:
    """Answers each connection's first request with the pieces of `answer`, until the client goes."""

    def __init__(self, answer):
        self.requests = []  # as they came
        self.sent = 0  # bytes
        self._answer = answer
        self._open = True
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/folder/data.hdf5"
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self):
        self._open = False
        self._listening.close()

    def _listen(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:  # the client has gone
            self.requests.append(connection.recv(1 << 16))
            for piece in self._answer():
                if not self._open:
                    return
                connection.sendall(piece)
                self.sent += len(piece)


def head(*lines, status=b"200 OK"):
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""])


def at_once(*pieces):
    """An answer that ends."""
    return lambda: iter(pieces)


def for_ever(*pieces, piece=PLENTY):
    """An answer that ends in `piece` again and again."""
    return lambda: itertools.chain(pieces, itertools.repeat(piece))


def byte_by_byte(*pieces, piece=b"x"):
    """The same, at the pace of a byte every `SLOWLY` seconds."""

    def answer():
        yield from pieces
        while True:
            time.sleep(SLOWLY)
            yield piece

    return answer


def moved(location, *pieces):
    return head(b"Location: " + location, b"Content-Length: 0", status=b"302 Found"), *pieces


def endless_chain():
    """Each redirection leads to an address that is not known yet."""
    for number in itertools.count():
        yield lambda number=number: iter(moved(b"/%d" % number))


CHUNKED = head(b"Transfer-Encoding: chunked")
ANSWERS = {
    "a length of 400 digits": at_once(head(b"Content-Length: " + b"9" * 400), b"no HDF5"),
    "a length of 5,000 digits": at_once(head(b"Content-Length: " + b"9" * 5000), b"no HDF5"),
    "a negative length": at_once(head(b"Content-Length: -1"), b"no HDF5"),
    "a range that nobody asked for": at_once(
        head(b"Content-Range: bytes 0-1/" + b"9" * 5000, status=b"206 Partial Content")
    ),
    "moved to half a bracket": at_once(*moved(b"http://[::1")),
    "moved to what is not UTF-8": at_once(*moved(b"http://127.0.0.1/\xff\xfe")),
    "moved to a local file": at_once(*moved(b"file:///etc/passwd")),
    "moved to nobody's port": at_once(*moved(b"http://127.0.0.1:99999/")),
    "moved, with escape sequences": at_once(*moved(b"ftp://\x1b]0;owned\x07\x1b[2J/" + b"x" * 5000)),
    "moved to itself": at_once(*moved(b"/folder/data.hdf5")),
    "moved, with an endless body": for_ever(
        head(b"Location: /folder/data.hdf5", b"Content-Length: 1" + b"0" * 12, status=b"302 Found")
    ),
    "a body without an end": for_ever(head()),
    "a page without an end": for_ever(head(b"Content-Type: text/html"), piece=b"<p>" * 10_000),
    "chunks without an end": for_ever(CHUNKED, piece=b"10000\r\n" + PLENTY + b"\r\n"),
    "a body byte by byte": byte_by_byte(head(b"Content-Length: 1000000")),
    "a head byte by byte": byte_by_byte(OK + b"X-Much: "),
    "a status line byte by byte": byte_by_byte(b"HTTP/1.1 200 "),
    "heads without an end": for_ever(piece=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "head lines without an end": for_ever(OK, piece=b"X-Much: more\r\n"),
    "a head line without an end": for_ever(OK + b"X-Much: "),
    "a chunk's length byte by byte": byte_by_byte(CHUNKED, piece=b"0"),
    "trailers without an end": for_ever(CHUNKED + b"0\r\n", piece=b"X-Much: more\r\n"),
    "a chunk of negative length": for_ever(CHUNKED + b"-5\r\n"),
    "a chunk of a length that is none": at_once(CHUNKED + b"\x1b[31mzz\r\n"),
    "silence": byte_by_byte(piece=b""),
    "escape sequences for a reason": at_once(head(status=b"404 \x1b]0;owned\x07\x1b[2J" + b"gone " * 2000)),
    "escape sequences for a type": at_once(head(b"Content-Type: \x1b[31mtext" + b"x" * 5000), b"no HDF5"),
    "a validator of 60 KB": at_once(head(b'ETag: "' + b"x" * 60_000 + b'"', b"Content-Length: 9"), b"no"),
    "no HTTP": for_ever(piece=b"\x1b[31m220 mail.example ready\r\n"),
}
