"""Outputs are there whole or not at all."""

import resource
from pathlib import Path

import pytest

from xql_jax.errors import UserError
from xql_jax.files.outputs import writing_output


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, content=b"new"):
    with writing_output("json", path) as unfinished:
        unfinished.write_bytes(content)


def test_a_full_disk_leaves_the_old_file():
    path, limits = Path("a.json"), resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_bytes(b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # of any file, in bytes
    try:
        with pytest.raises(
            UserError, match=r"^--json=a\.json: .*: File too large; the old file is as it was$"
        ):
            write(path, bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(found.name, found.read_bytes()) for found in Path().iterdir()] == [("a.json", b"old")]
