"""The memory that is left to this process: of the host's, its container's or its job's."""

import contextlib
import itertools
import os
from pathlib import Path

import psutil

from xql_jax.errors import UserError

PROCESS = psutil.Process()
COPIES = 3  # of a file's arrays in memory: as they are read, as transitions, and preprocessed
GROUPS = (("", "max", "current"), ("memory", "limit_in_bytes", "usage_in_bytes"))  # control groups v2 and v1


def free_memory(root: Path = Path("/")) -> int:
    """Returns the bytes that are free within every limit on this process; `root` has /proc and /sys.

    They are the host's memory, control groups' (containers, jobs), SLURM's, RLIMIT_AS and RLIMIT_DATA.
    """
    free = [psutil.virtual_memory().available]
    if psutil.LINUX:
        used = PROCESS.memory_info()
        for kind, taken in ((psutil.RLIMIT_AS, used.vms), (psutil.RLIMIT_DATA, used.data)):
            limit = PROCESS.rlimit(kind)[0]
            free += [limit - taken] * (limit != psutil.RLIM_INFINITY)
        given = ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE")  # in MiB; 0: all of the node's
        values = [os.environ.get(f"SLURM_{name}", "") for name in given]
        node, cpu, cpus = (int(value) if value.isdigit() else 0 for value in values)
        free += [(node or cpu * cpus) * 2**20 - used.rss] * bool(node or cpu * cpus)
    with contextlib.suppress(OSError):
        lines = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
        for group in {Path(path) for _, kinds, path in lines if not kinds or "memory" in kinds.split(",")}:
            for (folder, *names), at in itertools.product(GROUPS, (group, *group.parents)):
                here = root / "sys/fs/cgroup" / folder / at.relative_to("/")
                with contextlib.suppress(OSError, ValueError):  # no limit: "max", or no file
                    limit, taken = (int((here / f"memory.{name}").read_text()) for name in names)
                    stat = dict(map(str.split, (here / "memory.stat").read_text().splitlines()))
                    spare = stat.get("total_inactive_file", stat.get("inactive_file", 0))
                    free.append(limit - taken + int(spare))
    return max(0, min(free))


def check_memory(num_bytes: int, what: str, copies: int = COPIES) -> None:
    """Raises UserError if there is no room for so many copies of a dataset of arrays of so many bytes."""
    needed, free = copies * num_bytes, free_memory()
    if needed > free:
        raise UserError(
            f"{what}: {needed / 1e9:,.3f} GB of memory are needed, {free / 1e9:,.3f} GB are free to this "
            "process: use a machine or a job with more memory, or a part of the data"
        )
