"""What the tests of downloads share: the file, how long they wait, and what is left in its folder."""

import dataclasses
import io
import json

import h5py
import numpy as np
import pytest

from xql_jax.data.download import Patience, download
from xql_jax.errors import UserError

PATIENCE = Patience(connect_seconds=1.0, stall_seconds=0.4, attempts=3, pause_seconds=0.01)
UNHURRIED = Patience(stall_seconds=30.0)
AS_OFTEN = dataclasses.replace(UNHURRIED, attempts=PATIENCE.attempts, pause_seconds=PATIENCE.pause_seconds)


def hdf5_bytes(seed):
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content["noise"] = np.random.default_rng(seed).integers(0, 256, 100_000, np.uint8)
    return file.getvalue()


CONTENT, OTHER = hdf5_bytes(0), hdf5_bytes(1)
SIZE = len(CONTENT)
assert len(OTHER) == SIZE


def names(path):
    """What is in the file's folder but for its lock, which stays there."""
    lock = path.name + ".lock"
    return sorted(found.name for found in path.parent.iterdir() if found.name != lock)


def fails(server, path, message, patience=PATIENCE):
    with pytest.raises(UserError, match=message) as error:
        download(server.url, path, patience)
    assert not path.exists()
    assert server.url in str(error.value)
    return str(error.value)


def leave(path, content, synced):
    """Makes `content` of the part, of which the disk is said to have `synced` bytes."""
    path.with_name("data.hdf5.part").write_bytes(content)
    about = path.with_name("data.hdf5.part.json")
    about.write_text(json.dumps({**json.loads(about.read_text()), "synced": synced}))


def interrupted(server, path):
    """Leaves 60,000 bytes of the file, as a run that was killed does."""
    server.plan = [{"stop_after": 60_000}, *[{"status": 503}] * 3]
    fails(server, path, "503", AS_OFTEN)  # a machine that is busy is no silent server
    server.plan, server.ranges[:], server.sent[:] = [], [], []
