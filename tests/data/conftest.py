"""A server on this machine, and a place for what it sends."""

import pytest
from downloads import CONTENT
from file_server import FileServer


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FileServer(CONTENT)
    yield server
    server.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a" / "folder" / "data.hdf5"  # neither is there yet
