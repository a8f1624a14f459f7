"""Files that are there whole or not at all, and what is said where they cannot be written."""

import contextlib
import errno
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping
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


@contextlib.contextmanager
def replacing(path: Path, unfinished: str) -> Iterator[Path]:
    """Gives a name beside `path` for a file in the making, which takes its place if all goes well."""
    temporary = path.with_name(unfinished)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # what there is of it takes the space that is lacking


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Writes to a temporary name beside `path`, then renames: readers see the old file or the new, whole.

    Also after a loss of power: the new file is on the disk before it takes the name.
    """
    with writing(path):
        with replacing(path, path.name + ".tmp") as temporary, temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        sync(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object that the file holds; an empty one if it holds none, or cannot be read."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError):  # ValueError: neither JSON nor UTF-8
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all; numbers that JSON has not become text, "inf" or "nan"."""
    write_atomically(path, as_json(content) + "\n")


def as_json(content: Mapping[str, Any]) -> str:
    """The text that `write_json` writes."""
    return json.dumps(_finite(content), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def sync(path: Path) -> None:
    """Has the disk take a file's content, or a folder's names, before anything that follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_output(flag: str, name: str, suffixes: Collection[str] = ()) -> Path:
    """Returns the path that the flag gives; what lies there is left alone.

    Args:
        flag: its name, for messages.
        name: of a file, new or to be replaced. Folders above it need not exist.
        suffixes: those that the file may have; none: any.
    Raises:
        UserError: if no file of that name can be written.
    """
    path = Path(name).expanduser()
    where = f"--{flag}={path}"
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{where}: unknown suffix {path.suffix!r}; known: {', '.join(suffixes)}")
    try:
        if path.exists() and not path.is_file():
            kind = "a directory" if path.is_dir() else "a device"
            raise UserError(f"{where}: cannot be written: it is {kind}, not a file")
        folder = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:  # a name that is too long, a loop of links
        raise UserError(f"{where}: cannot be written: {error.strerror}") from error
    if not folder.is_dir():
        raise UserError(f"{where}: cannot be written: {folder} is not a directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{where}: cannot be written: no permission to write in {folder}")
    return path


def make_folder(flag: str, name: str) -> Path:
    """Returns the folder that the flag names, made with all above it, or raises UserError."""
    path = Path(name).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{flag}={path}: cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"--{flag}={path}: no permission to write there")
    return path
