"""Fixtures of the tests of downloads."""

import pytest
from file_server import CONTENT, FileServer


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FileServer(CONTENT)
    yield server
    server.close()
