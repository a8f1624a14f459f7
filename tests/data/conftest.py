"""A server on this machine, and places for what it sends and for what is cached."""

import pytest
from downloads import CONTENT
from file_server import FileServer

from xql_jax.data import d4rl_hdf5, mapped, npz


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FileServer(CONTENT)
    yield server
    server.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a" / "folder" / "data.hdf5"  # neither is there yet


@pytest.fixture
def short_passes(monkeypatch):
    """Columns are gone through and copied in many small steps."""
    monkeypatch.setattr(mapped, "ROWS_A_PASS", 617)
    for module in (d4rl_hdf5, npz):
        monkeypatch.setattr(module, "BLOCK", 10_000)


@pytest.fixture
def columns(tmp_path, monkeypatch):
    """Where the columns go."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "columns"
