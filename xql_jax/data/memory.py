"""The memory that is left to this process: of the host's, its container's or its job's."""

import contextlib
import os
from pathlib import Path

import psutil

from xql_jax.errors import UserError

COPIES = 3  # of a file's arrays in memory: as they are read, as transitions, and preprocessed
GROUPS = (("", "max", "current"), ("memory/", "limit_in_bytes", "usage_in_bytes"))  # control groups v2 and v1


def free_memory(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns the bytes that are free on the host, within SLURM's limit and the container's, in `root`."""
    free = [psutil.virtual_memory().available]
    settings = ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE")  # in MiB; 0: all of the node's
    values = [os.environ.get(f"SLURM_{name}", "") for name in settings]
    node, cpu, cpus = (int(value) if value.isdigit() else 0 for value in values)
    if job := (node or cpu * cpus) * 2**20:
        free.append(job - psutil.Process().memory_info().rss)
    for folder, *names in GROUPS:
        with contextlib.suppress(OSError, ValueError):  # no limit: "max", or no file
            limit, used, stat = ((root / f"{folder}memory.{name}").read_text() for name in (*names, "stat"))
            cache = dict(line.split() for line in stat.splitlines()).get("inactive_file", 0)
            free.append(int(limit) - int(used) + int(cache))
    return max(0, min(free))


def check_memory(num_bytes: int, what: str, copies: int = COPIES) -> None:
    """Raises UserError if there is no room for so many copies of a dataset of arrays of so many bytes."""
    needed, free = copies * num_bytes, free_memory()
    if needed > free:
        sizes = f"{needed / 1e9:,.3f} GB of memory are needed, {free / 1e9:,.3f} GB are free to this process"
        raise UserError(f"{what}: {sizes}: use a machine or a job with more memory, or a part of the data")
