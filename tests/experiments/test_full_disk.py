"""A disk that takes no more: a line that names the file, and the run goes on."""

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest
from broken_runs import assert_same_run
from driver import run_folder

pytestmark = pytest.mark.slow
# In a mount namespace of its own, which needs no rights but to make one: the same command again and again,
# on a disk that is given a little more each time. Arguments: the disk, a folder for the copy, the command.
SCRIPT = """
disk=$0 copy=$1; shift
mount -t tmpfs -o size=12k tmpfs "$disk" || exit 9
for size in 12k 24k 80k 120k 50m; do
  mount -o remount,size=$size "$disk"
  case $size in 12k|24k) interval=600;; *) interval=100;; esac
  "${@/--checkpoint_interval=100/--checkpoint_interval=$interval}"; echo "exit code $?"
done
cp -r "$disk" "$copy"
"""


def test_a_disk_that_is_full(bench, unbroken, tmp_path):
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "bash", "-c", SCRIPT, str(disk), str(copy))
    process = bench.start(disk, prefix=prefix, log=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=600)
    if "exit code" not in out:
        pytest.skip(f"no tmpfs can be mounted here: {err.strip()}")
    assert re.findall(r"exit code (\d+)", out) == ["2"] * 4 + ["0"], err
    told = rf"error: cannot write (.*): {os.strerror(errno.ENOSPC)}; .* and go on with --resume"
    refused = [Path(re.fullmatch(told, line)[1]) for line in err.splitlines()]
    assert len(refused) == 4
    assert all(disk in path.parents for path in refused)
    assert len({path.name for path in refused}) >= 2, refused
    assert any(path.name.isdigit() for path in refused), refused  # a checkpoint
    assert_same_run(run_folder(copy), unbroken)
    assert not list(copy.rglob("*.tmp"))
