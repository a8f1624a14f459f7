"""The server answers for what it has, says no to all else, and nothing that is sent holds it up."""

import http.client
import os
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from xql_jax.errors import UserError
from xql_jax.serving import server as serving
from xql_jax.serving.live import Answer
from xql_jax.serving.server import HEADERS, LocalServer

PAGE = b"<p>a page</p>" * 20_000
ANSWERS = {path: Answer("text/csv", path.encode()) for path in serving.PATHS} | {
    "/": Answer("text/html", PAGE)
}


@pytest.fixture
def server():
    with LocalServer(lambda: ANSWERS, 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server, path="/stamp", method="GET", headers=(), body=None):
    """The status, the headers and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=any(name == "Host" for name, _ in headers))
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def send(server, data, timeout=30.0):
    """All that comes back for these bytes until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as connection:
        connection.sendall(data)
        answer = b""
        while read := connection.recv(65_536):
            answer += read
        return answer


@pytest.mark.parametrize("path", serving.PATHS)
def test_what_there_is_is_served_and_nothing_keeps_or_frames_it(server, path):
    status, headers, body = ask(server, path)
    assert (status, body) == (200, ANSWERS[path].content)
    assert headers["Content-Type"] == f"{ANSWERS[path].kind}; charset=utf-8"
    assert headers.items() >= HEADERS.items()
    assert ask(server, f"{path}?a=/etc/passwd")[2] == body


def test_head_has_the_headers_alone(server):
    answer = send(server, b"HEAD / HTTP/1.1\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(PAGE)}".encode() in head
    assert body == b""


OUTSIDE = [
    "/etc/passwd", "//etc/passwd", "/../../../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%", "/\xff", "*",
    "/%2e%2e/%2e%2e/etc/passwd", "/%252e%252e/etc/passwd", "/..\\..\\etc\\passwd", "/..%5c..%5cetc", "/./",
    "/scores.csv/../../../etc/passwd", "/scores.csv%00.html", "/scores.csv/", "/SCORES.CSV", "scores.csv",
    "http://127.0.0.1/etc/passwd", "file:///etc/passwd", "/index.html/../config.json", "/~root/.bashrc",
    "/proc/self/environ", "/link",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_else_is_served(server, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "config.json").write_text("root:")
    answer = send(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))
    assert answer.split()[1] in (b"404", b"400")
    assert b"root:" not in answer
    body = answer.partition(b"\r\n\r\n")[2]
    assert body.startswith(b"error: 40")
    assert body.count(b"\n") == 1


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "NONSENSE", "get"]
)
def test_other_methods_are_refused(server, method):
    status, headers, body = ask(server, "/", method, [("Content-Length", "5")], b"hello")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert body.startswith(b"error: 405")
    assert ask(server, "/", method, [("Content-Length", "500000")], b"x" * 500_000)[0] == 405


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),  # a page that has its name lead here
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: localhost.evil.example:80\r\n\r\n", b"421"),
        (b"GET / HTTP/1.1\r\nHost: LOCALHOST:1\r\n\r\n", b"200"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\n\n", b"200"),
        (b"GET / HTTP/2.0\r\n\r\n", b"505"),
        (b"GET / HTTP/x\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"\x00\xff\x16\x03\x01\r\n\r\n", b"400"),
        (b"a b c d e\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 3_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 150 + b"\r\n", b"431"),
    ],
)  # fmt: skip
def test_each_request_gets_its_answer(server, request_text, status):
    assert send(server, request_text).split()[1] == status


@pytest.mark.slow
def test_what_does_not_come_or_is_not_taken_holds_nobody_up(server, monkeypatch):
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(serving, "ANSWER_SECONDS", 1.0)
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3 * serving.MOST_AT_ONCE)]
    stop = threading.Event()

    def dribble():
        """A byte now and then to each, for ever."""
        while not stop.wait(0.05):
            for connection in held[::2]:
                try:
                    connection.send(b"G")
                except OSError:
                    continue

    thread = threading.Thread(target=dribble)
    thread.start()
    slow = socket.create_connection(("127.0.0.1", server.port))
    slow.send(b"GET / HTTP/1.1\r\n\r\n")  # and never reads
    try:
        start = time.monotonic()
        assert ask(server)[0] == 200
        # Three times as many as are served at once: three seconds until these are through.
        assert time.monotonic() - start < 15.0
    finally:
        stop.set()
        thread.join()
        for connection in (*held, slow):
            connection.close()


def test_a_mistake_while_the_answer_is_made_is_told():
    def fail():
        raise UserError("the folder has gone")

    with LocalServer(fail, 0) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        status, _, body = ask(server, "/")
        server.shutdown()
    assert (status, body) == (500, b"error: the folder has gone\n")


def test_a_port_that_is_taken(server):
    with pytest.raises(UserError, match=rf"--port={server.port}: cannot be used: Address already in use"):
        LocalServer(lambda: ANSWERS, server.port)


def test_it_listens_on_this_machines_own_address_alone(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.slow
def test_ten_thousand_requests_leave_memory_threads_and_files_as_they_were(server):
    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

    kinds = [
        lambda: ask(server, "/")[0] == 200,
        lambda: ask(server, "/stamp", "HEAD")[0] == 200,
        lambda: ask(server, "/../../etc/passwd")[0] == 404,
        lambda: ask(server, "/", "POST")[0] == 405,
        lambda: ask(server, "/", headers=[("A", "a" * 20_000)])[0] == 431,
    ]
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda number: kinds[number % len(kinds)](), range(1_000)))
        before = resident(), threading.active_count(), len(os.listdir("/proc/self/fd"))
        start = time.monotonic()
        assert all(pool.map(lambda number: kinds[number % len(kinds)](), range(10_000)))
        seconds = time.monotonic() - start
        time.sleep(0.5)
        after = resident(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    print(f"10,000 requests in {seconds:.0f} s; memory, threads, files {before} before, {after} after")
    assert after[0] - before[0] < 30e6
    assert after[1] <= before[1] + 2
    assert after[2] <= before[2] + 5
