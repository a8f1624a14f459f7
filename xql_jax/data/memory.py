"""How much memory there is, and what fits into it."""

import dataclasses
import re
from pathlib import Path

import jax
import psutil

from xql_jax.data.dataset import Dataset
from xql_jax.data.mapped import columns_of
from xql_jax.errors import UserError

# A file in memory becomes transitions, in which each observation stands twice, and on a CPU these have a copy
# on the "device": so many times the file's arrays.
COPIES = 4
SHARE_OF_DEVICE = 0.6  # for the data; the rest is for networks, their gradients and XLA


def available_memory() -> int:
    """Bytes of the host's memory that the machine, the container and the job leave to this process."""
    return min([psutil.virtual_memory().available, *_container_limits()])


def bytes_in_memory(path: Path) -> int:
    """How many bytes the arrays of an HDF5 file or an `.npz` take once they are read; 0 if it is damaged."""
    try:
        return sum(column.num_bytes for column in columns_of(path).values())
    except UserError:
        return 0  # the reader says what is wrong with it


def fits_in_memory(num_bytes: int) -> bool:
    """Can a file with arrays of so many bytes be read whole and trained on."""
    return COPIES * num_bytes < available_memory()


def fits_on_device(dataset: Dataset) -> bool:
    """Is there room for a copy of the transitions on each device that JAX uses."""
    return sum(field.nbytes for field in dataset.batch) < room_on_device()


def room_on_device() -> int:
    """Bytes that data may take on each device that JAX uses."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics is None or "bytes_limit" not in statistics:  # a CPU has no memory of its own
        return int(SHARE_OF_DEVICE * available_memory())
    return int(SHARE_OF_DEVICE * (statistics["bytes_limit"] - statistics["bytes_in_use"]))


@dataclasses.dataclass(frozen=True)
class _Version:
    """Where a version of control groups keeps those of memory, and the files of each."""

    folder: str  # below the root
    controllers: str  # in the process's line, as a regular expression
    limit: str
    used: str
    cached: str  # in memory.stat: files read, which are among what is used and give way to anything else


_VERSIONS = (
    _Version("", "", "memory.max", "memory.current", "inactive_file"),
    _Version(
        "memory",
        "(.*,)?memory(,.*)?",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def _container_limits(
    root: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """Bytes left by the limits of the process's control group and of all above it; none where there is none.

    Args:
        root: where the control groups are mounted.
        process: the file with a line NUMBER:CONTROLLERS:PATH for each hierarchy that the process is in.
    """
    try:
        groups = [line.split(":", 2)[1:] for line in process.read_text().splitlines() if line.count(":") > 1]
    except (OSError, ValueError):
        groups = []
    limits = []
    for version in _VERSIONS:
        paths = [path for controllers, path in groups if re.fullmatch(version.controllers, controllers)]
        for folder in _from_group_to_root(root / version.folder, paths[0] if paths else "/"):
            try:
                limit = int((folder / version.limit).read_text())
                limits.append(limit - int((folder / version.used).read_text()) + _cached(folder, version))
            except (OSError, ValueError):  # no such file, or "max"
                continue
    return limits


def _from_group_to_root(mount: Path, group: str) -> list[Path]:
    """A group's folder and those above; only `mount` for a group outside of what is mounted there.

    A container may see its own group as `mount` while the path is the machine's: then most are not there.
    """
    names = [name for name in group.split("/") if name]
    if ".." in names:
        return [mount]
    return [mount.joinpath(*names[:depth]) for depth in range(len(names), -1, -1)]


def _cached(folder: Path, version: _Version) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(version.cached + " ")), 0)
