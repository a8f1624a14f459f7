"""Downloads from servers that mean ill: they end soon, with a line that is fit for a terminal."""

import dataclasses
import time

import pytest
from downloads import CONTENT, PATIENCE, names
from hostile_server import ANSWERS, PLENTY, HostileServer, at_once, for_ever, head, moved

from xql_jax.data import download as download_module
from xql_jax.data.download import download
from xql_jax.data.web import Hopeless, redirected, without_password
from xql_jax.errors import UserError

HASTY = dataclasses.replace(PATIENCE, slow_seconds=0.5, attempts=2)  # 500 bytes in half a second are due
# What the line must say, where more than one reason is not as good as another.
WORDS = {
    "a length of 400 digits": "more expected",
    "a length of 5,000 digits": "not HDF5",
    "a negative length": "not HDF5",
    "moved to half a bracket": "it redirects to 'http://[::1', which is no address",
    "moved to what is not UTF-8": "not UTF-8",
    "moved to a local file": "no address of http:// or https://",
    "moved, with escape sequences": "\\x1b]0;owned\\x07",
    "moved to itself": "more than 10 redirects",
    "moved, with an endless body": "more than 10 redirects",
    "a body without an end": "not HDF5",
    "a page without an end": "not HDF5 but text/html",
    "chunks without an end": "not HDF5",
    "a body byte by byte": "the server is too slow: it has sent fewer than 500 bytes in 0.5 s",
    "a head byte by byte": "the server is too slow",
    "a status line byte by byte": "the server is too slow",
    "heads without an end": "the server is too slow",
    "a chunk's length byte by byte": "the server is too slow",
    "silence": "the server has sent nothing for 0.4 s",
    "escape sequences for a reason": "the server answers 404 \\x1b]0;owned\\x07",
    "escape sequences for a type": "not HDF5 but \\x1b[31mtext",
}


@pytest.fixture
def hostile(monkeypatch):
    """Makes servers, which are closed at the end."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    def make(answer):
        servers.append(HostileServer(answer))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def fails(url, path, patience=HASTY):
    with pytest.raises(UserError) as error:
        download(url, path, patience)
    assert names(path) == []
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize("name", ANSWERS)
def test_it_ends_soon_with_a_line_and_nothing_kept(hostile, path, caplog, name):
    caplog.set_level("INFO", logger="xql_jax")
    server, begun = hostile(ANSWERS[name]), time.monotonic()
    message = fails(server.url, path)
    assert time.monotonic() - begun < 8
    assert WORDS.get(name, "") in message
    assert "--dataset_url=ADDRESS" in message
    assert len(message) < 600 + len(str(path))
    assert all(text.isprintable() for text in caplog.messages)


def test_a_redirections_body_is_not_read(hostile, path):
    server = hostile(ANSWERS["moved, with an endless body"])
    fails(server.url, path)
    assert len(server.requests) == 11
    assert server.sent < 11 * 8 * 2**20  # what the system takes before anybody reads it


def test_no_more_is_received_than_is_told(hostile, path):
    """Chunks have no end, whatever a length beside them, or a range, says."""
    lines = (b"Content-Length: 200000", b"Transfer-Encoding: chunked", b'ETag: "a"')
    chunk = b"10000\r\n" + PLENTY + b"\r\n"
    message = fails(hostile(for_ever(head(*lines), piece=chunk)).url, path)
    assert "bytes of a file of 200,000" in message


@pytest.fixture
def short_of_space(monkeypatch):
    monkeypatch.setattr(download_module, "SYNC_EVERY", 1 << 20)


ENDLESS = for_ever(head(b'ETag: "it could be gone on with"'), CONTENT)


def test_a_file_of_unknown_size_may_take_so_much_and_no_more(hostile, path, short_of_space, monkeypatch):
    monkeypatch.setattr(download_module, "MOST_UNTOLD", 5 << 20)
    message = fails(hostile(ENDLESS).url, path)
    assert "the server does not say how large the file is; after 5 MB, with " in message
    assert "there was no end to it" in message


def test_a_file_of_unknown_size_does_not_fill_the_disk(hostile, path, short_of_space, monkeypatch):
    monkeypatch.setattr(download_module, "LEFT_FREE", 1 << 60)
    assert "after 1 MB, with " in fails(hostile(ENDLESS).url, path)


def test_a_server_that_gets_on_too_slowly_is_given_up(server, path):
    """Each attempt brings something new, and it would take for ever."""
    server.plan = [{"stop_after": 10, "slow": 0.1}] * 99
    patience = dataclasses.replace(PATIENCE, attempts=4)
    with pytest.raises(UserError, match="40 bytes are kept"):
        download(server.url, path, patience)
    assert len(server.ranges) == 4


USER = "somebody:tr0ub4%2Fdor:x"


@pytest.mark.parametrize(
    "answer",
    [
        at_once(head(status=b"404 Not Found")),
        at_once(*moved(b"/elsewhere")),
        at_once(head(status=b"503 Later")),
        at_once(head(b'ETag: "a"', b"Content-Length: 9999"), CONTENT[:2000]),
    ],
)
def test_a_password_is_sent_and_not_shown(hostile, path, caplog, answer):
    caplog.set_level("DEBUG")
    server = hostile(answer)
    with pytest.raises(UserError) as error:
        download(server.url.replace("//", f"//{USER}@"), path, HASTY)
    assert all(b"Authorization: Basic c29tZWJvZHk6dHIwdWI0L2Rvcjp4" in request for request in server.requests)
    kept = "".join(file.read_text("latin-1") for file in path.parent.iterdir() if ".json" in file.name)
    shown = str(error.value) + caplog.text + kept
    assert not any(secret in shown for secret in ("somebody", "tr0ub4", "dor:x"))
    assert f"http://***@127.0.0.1:{server.port}/folder/data.hdf5" in shown


@pytest.mark.parametrize("url", ["http://user:pa/ss@host/data.hdf5", "https://user:pa#ss@host/data.hdf5"])
def test_a_password_that_ends_the_address_is_not_shown(path, url):
    with pytest.raises(UserError, match="as %2F") as error:
        download(url, path, HASTY)
    assert "pa" not in str(error.value).split("password")[0]
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host/a@b", "http://host/a@b"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://user@host/a", "http://***@host/a"),
        ("http://user:p@ss@host/a@b", "http://***@host/a@b"),
        ("http://user:p?ss@host/a", "http://***@host/a"),
        ("ftp://user:pass@host/a", "ftp://***@host/a"),
        ("data.hdf5", "data.hdf5"),
    ],
)
def test_what_is_shown_of_an_address(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("url", "location", "expected"),
    [
        ("http://u:p@host/a/b", "c", "http://u:p@host/a/c"),
        ("http://u:p@host/a", "http://host/c", "http://u:p@host/c"),  # the same server knows the user
        ("http://u:p@host/a", "https://host/c", "https://host/c"),  # others are not told
        ("http://u:p@host/a", "http://other/c", "http://other/c"),
        ("https://host/a", "//other/c", "https://other/c"),
        ("http://host/a", "/\xc3\xa9", "http://host/é"),
    ],
)
def test_where_a_redirection_leads(url, location, expected):
    assert redirected(url, location) == expected


@pytest.mark.parametrize(
    "location", ["http://[::1", "\xff", "javascript:1", "http://", "file:///x", "data:,"]
)
def test_a_redirection_that_leads_nowhere(location):
    with pytest.raises(Hopeless, match="it redirects to"):
        redirected("https://host/a", location)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\x00\xff" * 500])
def test_the_certificates_to_trust_are_named(path, tmp_path, monkeypatch, variable, content):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "trusted.pem"))
    if content is not None:
        (tmp_path / "trusted.pem").write_bytes(content)
    message = fails("https://127.0.0.1:1/data.hdf5", path)
    if content is None or "refused" not in message:
        assert "its TLS certificate cannot be checked, or is not trusted: " in message
        assert f"; the trusted ones are those of {variable}={tmp_path}/trusted.pem); " in message
