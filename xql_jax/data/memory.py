"""How much memory there is, and what fits into it."""

from pathlib import Path

import jax
import psutil

from xql_jax.data.dataset import Dataset

# A file in memory becomes transitions, in which each observation stands twice, and on a CPU these have a copy
# on the "device": so many times the file's arrays.
COPIES = 4
SHARE_OF_DEVICE = 0.6  # for the data; the rest is for networks, their gradients and XLA


def available_memory() -> int:
    """Bytes of the host's memory that are free for this process: the machine's, or its container's."""
    return min(psutil.virtual_memory().available, *_container_limits())


def fits_in_memory(num_bytes: int) -> bool:
    """Can a file with arrays of so many bytes be read whole and trained on."""
    return COPIES * num_bytes < available_memory()


def fits_on_device(dataset: Dataset) -> bool:
    """Is there room for a copy of the transitions on each device that JAX uses."""
    num_bytes = sum(field.nbytes for field in dataset.batch)
    statistics = jax.local_devices()[0].memory_stats()
    if statistics is None or "bytes_limit" not in statistics:  # a CPU has no memory of its own
        return num_bytes < SHARE_OF_DEVICE * available_memory()
    return num_bytes < SHARE_OF_DEVICE * (statistics["bytes_limit"] - statistics["bytes_in_use"])


# The files of a control group, version 2 and 1: the limit, what is used of it, and the statistic that says
# how much of that are files read, which give way to anything else.
_GROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def _container_limits(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Bytes left by the limits of the process's container; none where there is no limit."""
    limits = []
    for limit, used, statistics, files in _GROUPS:
        try:
            lines = (line.split() for line in (root / statistics).read_text().splitlines())
            cached = next(int(value) for name, value in lines if name == files)
            limits.append(int((root / limit).read_text()) - int((root / used).read_text()) + cached)
        except (OSError, ValueError, StopIteration):  # no such file, or "max"
            continue
    return limits
