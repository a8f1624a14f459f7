"""A disk that takes no more: a line that names the file, and the run goes on."""

import errno
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from broken_runs import assert_same_run
from main_runs import run_folder

pytestmark = pytest.mark.slow


def file_refused(process, reason):
    """The run's exit must be an error of one line; returns the name of the file in it."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2, out + err
    assert "Traceback" not in out
    assert len(err.splitlines()) == 1, err[:3000]
    line = err.strip()
    told = re.fullmatch(rf"error: cannot write (.*): {reason}; .* and go on with --resume", line)
    assert told, line
    return Path(told[1])


class TinyDisk:
    """A tmpfs in a mount namespace of its own, which needs no rights but to make one."""

    def __init__(self, mount):
        self.mount = mount
        script = 'mount -t tmpfs -o size=16k tmpfs "$0" && echo mounted && exec sleep 3600'
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(mount)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._holder.stdout.readline() != "mounted\n":
            pytest.skip(f"no tmpfs can be mounted here: {self._holder.communicate()[1].strip()}")
        self.inside = (
            "nsenter", f"--target={self._holder.pid}", "--user", "--mount", "--preserve-credentials", "--"
        )  # fmt: skip
        self.outside = Path(f"/proc/{self._holder.pid}/root{mount}")

    def resize(self, size):
        subprocess.run([*self.inside, "mount", "-o", f"remount,size={size}", self.mount], check=True)

    def close(self):
        self._holder.kill()
        self._holder.communicate()


@pytest.fixture
def tiny_disk():
    with tempfile.TemporaryDirectory() as folder:
        disk = TinyDisk(Path(folder))
        yield disk
        disk.close()


def test_a_disk_that_is_full(bench, unbroken, tiny_disk):
    """On a disk that is given a little more after each run; a full disk stops whoever comes first."""
    refused = []
    for size, interval in (("12k", 600), ("24k", 600), ("120k", 100), ("400k", 100)):
        tiny_disk.resize(size)
        process = bench.start(
            tiny_disk.mount, f"--checkpoint_interval={interval}",
            prefix=tiny_disk.inside, log=subprocess.PIPE, text=True,
        )  # fmt: skip
        path = file_refused(process, os.strerror(errno.ENOSPC))
        assert tiny_disk.mount in path.parents
        refused.append(path.name)
    assert len(set(refused)) >= 2, refused
    assert any(name.isdigit() for name in refused), refused  # a checkpoint
    tiny_disk.resize("50m")
    process = bench.start(tiny_disk.mount, prefix=tiny_disk.inside)
    assert bench.finish(process) == 0, bench.log()
    assert_same_run(run_folder(tiny_disk.outside), unbroken)
    assert not list(tiny_disk.outside.rglob("*.tmp"))
