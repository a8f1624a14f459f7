"""Files that are written whole or not at all, read with a digest, and locked; errors name the file."""

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from xql_jax.errors import Busy, Damaged, UserError
from xql_jax.types import Json

LOG = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # as on clusters' file systems


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Context manager that turns an OSError into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "free space outside the run's folder" if error.errno in FULL else "remove the cause"
        raise UserError(f"cannot write {path}: {reason}; {remedy} and go on with --resume") from error


@contextlib.contextmanager
def replacing(path: Path, unfinished: str = "") -> Iterator[Path]:
    """Context manager that yields a temporary path beside `path`; it becomes `path` if nothing fails."""
    temporary = path.with_name(unfinished or f"{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()  # an unfinished file would waste disk space


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Writes to a temporary name beside `path`, then renames: readers see the old file or the whole new one.

    So do they after a loss of power: the new file is flushed to the disk before it is renamed.
    """
    with writing(path):
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        sync(path.parent)


def write_record(path: Path, content: Mapping[str, object]) -> None:
    """Writes JSON with a digest of its content, which `read_record` checks."""
    written: Json = json.loads(as_json(content))
    write_atomically(path, as_json({**written, "digest": digest(written)}) + "\n")


def read_whole(path: Path) -> bytes:
    """Returns a file's bytes; Damaged if it is missing, UserError if the system refuses to read it."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Damaged(f"{path}: missing") from error
    except OSError as error:  # perhaps only now, so the file is not damaged
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def read_record(path: Path) -> Json:
    """Returns what `write_record` wrote; raises the errors of `read_whole`, and Damaged if it has changed."""
    try:
        content = json.loads(read_whole(path))
    except ValueError as error:
        raise Damaged(f"{path}: damaged: it is not JSON") from error
    if isinstance(content, dict) and content.pop("digest", None) == digest(content):
        return content
    raise Damaged(f"{path}: damaged: it is not as it was written")


def digest(content: object) -> str:
    """Returns the SHA-256 of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sources_digest(module: str) -> str:
    """Returns a digest of an imported module's file or, of a package, of all files; "" if it has none."""
    place = getattr(sys.modules.get(module), "__file__", None)
    if place is None or not Path(place).is_file():  # <stdin>, or deleted meanwhile
        return ""
    file, sources = Path(place), hashlib.sha256()
    for each in sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]:
        sources.update(each.relative_to(file.parent).as_posix().encode() + b"\0" + each.read_bytes())
    return sources.hexdigest()[:12]


def as_json(content: Mapping[str, object]) -> str:
    """Returns JSON text. Numbers that JSON lacks become text: "inf" or "nan"."""
    return json.dumps(_finite(content), indent=2, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def with_numbers(value: Any) -> Any:
    """Returns JSON content with the texts "inf", "-inf" and "nan", as `as_json` writes them, as floats.

    Only for content in which such a text is never a name.
    """
    if isinstance(value, Mapping):
        return {key: with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_numbers(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def sync(path: Path) -> None:
    """Flushes a file's content, or the names in a folder, to the disk before returning."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Context manager that holds the lock file of `what`; Busy if another process does."""
    lock = filelock.FileLock(path, timeout=1.0, fallback_to_soft=False)  # `is_locked` holds it for a moment
    try:
        lock.acquire()
    except filelock.Timeout:
        raise Busy(f"another process is at this {what}") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        LOG.warning(f"{path}: this file system has no locks: see that no other process writes there")
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file, as far as the file system tells."""
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0, fallback_to_soft=False):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # a file system without locks, or a file that is not ours
        return False
