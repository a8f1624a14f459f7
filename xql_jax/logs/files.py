"""Files that are there whole or not at all, and what is said where they cannot be written."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xql_jax.errors import UserError

# What says that the disk is full, or read-only, or fails: no mistake of the program's.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EROFS)


def cannot_write(path: Path, reason: str) -> UserError:
    """The line with which a run stops whose disk takes no more."""
    return UserError(f"cannot write {path}: {reason}; free space and go on with --resume")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises UserError, naming `path`, for what the system refuses meanwhile."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error.strerror or str(error)) from error


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Writes to a temporary name beside `path`, then renames: readers see the old file or the new, whole.

    Also after a loss of power: the new file is on the disk before it takes the name.
    """
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()  # what there is of it takes the space that is lacking
            raise
        sync(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object that the file holds; an empty one if it holds none, or cannot be read."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError):  # ValueError: neither JSON nor UTF-8
        return {}
    return content if isinstance(content, dict) else {}


def sync(path: Path) -> None:
    """Has the disk take a file's content, or a folder's names, before anything that follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
