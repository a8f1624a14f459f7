"""Disks that take no more, or give back other bytes: a line that names the file, and the run goes on."""

import errno
import os
import re
import resource
import subprocess
import tempfile
from pathlib import Path

import pytest
from broken_runs import assert_same_run, run_folder

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


# Bytes that a file may have, and updates between checkpoints.
LIMITS = (500, 600), (2_200, 600), (3_000, 600), (12_000, 100), (43_000, 100)


def test_files_that_may_not_grow(bench, unbroken):
    """Under RLIMIT_FSIZE large writes fail; each run goes on where the one before stopped."""
    save_dir, refused = bench.folder / "limited", []
    for limit, interval in LIMITS:
        process = bench.start(
            save_dir, "--resume", f"--checkpoint_interval={interval}", log=subprocess.PIPE, text=True,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
        path = file_refused(process, os.strerror(errno.EFBIG))
        assert save_dir in path.parents
        refused.append(path.name)
        assert not list(save_dir.rglob("*.json.tmp")) + list(save_dir.rglob("*.csv.tmp"))
    checkpoint = refused[3]
    assert refused == ["config.json", "seed42", "seed42", checkpoint, "learning_curve.png"]
    assert checkpoint.isdigit()
    assert_same_run(bench.run(save_dir, "--resume"), unbroken)


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
            tiny_disk.mount, "--resume", f"--checkpoint_interval={interval}",
            prefix=tiny_disk.inside, log=subprocess.PIPE, text=True,
        )  # fmt: skip
        path = file_refused(process, os.strerror(errno.ENOSPC))
        assert tiny_disk.mount in path.parents
        refused.append(path.name)
    assert len(set(refused)) >= 2, refused
    assert any(name.isdigit() for name in refused), refused  # a checkpoint
    tiny_disk.resize("50m")
    process = bench.start(tiny_disk.mount, "--resume", prefix=tiny_disk.inside)
    assert bench.finish(process) == 0, bench.log()
    assert_same_run(run_folder(tiny_disk.outside), unbroken)
    assert not list(tiny_disk.outside.rglob("*.tmp"))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_files_that_are_not_as_they_were(bench, unbroken):
    """All that a run left is damaged but for its older checkpoints: it comes back to the same bits."""
    save_dir = bench.folder / "damaged"
    run = bench.run(save_dir)
    (run / "summary.json").write_bytes((run / "summary.json").read_bytes()[:99])
    (run / "config.json").write_bytes(b"\xff\xfe" * 9)
    for name in ("metrics.csv", "evaluations.csv"):
        with (run / name).open("ab") as file:
            file.write(b"\x00\x00\n600,4\xff\n600,1,2")
    flip(max((run / "checkpoints" / "600").rglob("d/*"), key=lambda path: path.stat().st_size))
    process = bench.start(save_dir, "--resume", log=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    warned = [line.split(" ")[1] for line in out.splitlines() if line.startswith("warning: ")]
    assert sorted(Path(word.rstrip(":")).name for word in warned) == [
        "checkpoint", "config.json", "summary.json"
    ]  # fmt: skip
    assert "goes on from 500" in out
    assert_same_run(run, unbroken)

    (run / "summary.json").unlink()
    for path in (run / "checkpoints").glob("[0-9]*/checkpoint.json"):
        flip(path)
    before = {path: path.read_bytes() for path in (run / "checkpoints").rglob("*") if path.is_file()}
    process = bench.start(save_dir, "--resume", log=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1
    assert re.match(rf"error: checkpoint {run}/checkpoints/600: damaged: .* nor can the 2 before it", err)
    assert f"delete {run} or start anew with another --save_dir" in err
    assert {path: path.read_bytes() for path in before} == before
