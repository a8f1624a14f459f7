"""How much memory there is, and the error message if there is too little."""

import dataclasses
import re
import resource
from pathlib import Path

import jax
import psutil

from xql_jax.errors import UserError

UNLIMITED = 1 << 62
OWN = 512 << 20  # bytes of host memory that are kept for training itself, at most a quarter of what is left
SHARE_OF_DEVICE = 0.6  # of its memory, for the data; the rest is for networks, their gradients and XLA


def available_memory() -> int:
    """Returns the bytes of host memory left by the limits of machine, container, job and shell."""
    limits = [psutil.virtual_memory().available, *_container_limits(), _left_of_data(), address_space()]
    return max(0, min(limits))


def room_for_data() -> int:
    """Returns the bytes of host memory for data; compilation, networks and threads need the rest."""
    return _less_own(available_memory())


def _less_own(there: int) -> int:
    return there - min(OWN, there // 4)


def address_space() -> int:
    """Returns the bytes of address space that `ulimit -v` leaves; memory-mapped files take some, too."""
    return _left(resource.RLIMIT_AS, psutil.Process().memory_info().vms)


def _left_of_data() -> int:
    """Returns the bytes that `ulimit -d` leaves; it counts writable memory that belongs to no file."""
    # If the system does not report that part, all of the process's memory is counted.
    used = psutil.Process().memory_info()
    return _left(resource.RLIMIT_DATA, getattr(used, "data", used.vms))


def _left(limit: int, used: int) -> int:
    most, _ = resource.getrlimit(limit)
    return UNLIMITED if most == resource.RLIM_INFINITY else max(0, most - used)


def check_memory(needed: int, what: str, remedies: str) -> None:
    """Raises UserError unless the host's memory has room for data.

    Args:
        needed: bytes.
        what: the name of what takes them, for the message.
        remedies: what the user can do, for the message.
    """
    room = room_for_data()
    if needed > room:
        raise UserError(
            f"{what}: {in_words(needed)} of memory are needed, there are {in_words(room)} for data: "
            f"{remedies}"
        )


def check_address_space(needed: int, what: str) -> None:
    """Raises UserError unless so many bytes of files can be mapped."""
    there = _less_own(address_space())
    if needed > there:
        raise UserError(
            f"{what}: to map it from disk takes {in_words(needed)} of addresses, but the limit on "
            f"them (ulimit -v) leaves {in_words(there)}: raise that limit; a limit on memory itself can stay"
        )


def in_words(num_bytes: int) -> str:
    unit, name = (10**9, "GB") if num_bytes >= 10**9 else (10**6, "MB")
    return f"{num_bytes / unit:,.2f} {name}"


def fits_on_device(num_bytes: int) -> bool:
    """Returns whether each device that JAX uses has room for so many bytes of transitions."""
    return num_bytes < room_on_device()


def room_on_device() -> int:
    """Returns the bytes that data may take on each device that JAX uses."""
    left = memory_of_device()
    return int(SHARE_OF_DEVICE * (available_memory() if left is None else left))


def check_device(num_bytes: int, what: str) -> None:
    """Raises UserError if transitions of so many bytes exceed the free memory of a device that JAX uses."""
    left = memory_of_device()
    if left is not None and num_bytes > left:
        raise UserError(
            f"{what}: {in_words(num_bytes)} of memory are needed on the device, {in_words(left)} are there: "
            "--data_on=host streams them in blocks"
        )


def memory_of_device() -> int | None:
    """Returns the bytes left on each device that JAX uses; None for a CPU, which has no memory of its own."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics is None or "bytes_limit" not in statistics:
        return None
    return int(statistics["bytes_limit"] - statistics["bytes_in_use"])


@dataclasses.dataclass(frozen=True)
class _Version:
    """Where a version of Linux's control groups keeps the limits on memory, and the names of its files."""

    folder: str  # of the memory limits, below the root
    controllers: str  # regular expression for the controllers in the process's line
    limit: str
    used: str
    cached: str  # in memory.stat: files read, which count as used but are dropped when memory is needed


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
    """Returns the bytes left by each limit on the process's control group and on all groups above it.

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
    """Returns the folders of a group and of those above; only `mount` if the group is not below it.

    A container may see its own group as `mount` while the path is the host's; most folders then do not exist.
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
