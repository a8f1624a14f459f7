"""What a checkpoint holds, said in a file of its own, with the digests that prove it whole.

orbax does not notice a flipped byte, and cuts, fills and converts arrays without a word.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from xql_jax.errors import Damaged, UserError
from xql_jax.files import digest, read_file
from xql_jax.types import State

MANIFEST = "checkpoint.json"
NO_FILE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EINVAL,
    errno.ENXIO,
)  # the last two: a pipe, a socket


class UnfitCheckpoint(UserError):
    """A checkpoint that is damaged, or whole and of another program's states; `reason` says how."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"checkpoint {path}: {reason}")
        self.reason = reason


class DamagedCheckpoint(UnfitCheckpoint, Damaged):
    """One of which a file is not there or not as it was written: it will never be read again."""

    def __init__(self, path: Path, reason: str):
        super().__init__(path, f"damaged: {reason}")


def system_error(error: Exception) -> str | None:
    """The system's words that tensorstore's errors, which are ValueErrors, quote; None if they quote none."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(number[1])) if number else None


def cannot_read(path: Path, error: Exception) -> UserError:
    reason = system_error(error) or getattr(error, "strerror", None) or str(error)[:300]
    return UserError(f"cannot read {path}: {reason}")


def cannot_understand(path: Path, error: Exception) -> UserError:
    message = f"whole, but this version cannot read it: {type(error).__name__}: {error}"
    return UserError(f"checkpoint {path}: {message[:300]}")


def leaves_of(states: State) -> dict[str, str]:
    """The arrays' types and shapes by name."""
    leaves = jax.tree_util.tree_flatten_with_path(states)[0]
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def check_leaves(path: Path, found: dict[str, str], wanted: dict[str, str]) -> None:
    """orbax would cut, fill and convert arrays without a word."""
    for name in (*wanted, *found):
        if found.get(name) != wanted.get(name):
            raise UnfitCheckpoint(
                path,
                f"written for other states, by another version of the program: {name} is "
                f"{found.get(name, 'not there')}, not {wanted.get(name, 'wanted')}",
            )


def _file_digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            with path.open("rb") as file:
                digests[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def write_manifest(folder: Path, run: str, progress: dict[str, Any], states: Mapping[str, State]) -> None:
    """Written last: whose it is, and the digests of all other files, and its own."""
    members = {name: leaves_of(state) for name, state in states.items()}
    content = {"run": run, "progress": progress, "members": members, "files": _file_digests(folder)}
    (folder / MANIFEST).write_text(json.dumps({**content, "digest": digest(content)}, indent=1) + "\n")


def read_manifest(path: Path, run: str) -> dict[str, Any]:
    """Returns the manifest of a checkpoint of the run, whose folder's name is its step.

    Raises:
        DamagedCheckpoint: if it is not as it was written, or of another run or step.
        UnfitCheckpoint: if a version wrote it that did not say of which run it is.
        UserError: if the system does not let it be read.
    """
    try:
        with _reading(path, MANIFEST):
            content = json.loads(read_file(path / MANIFEST))
        if not isinstance(content, dict) or content.pop("digest", None) != digest(content):
            raise DamagedCheckpoint(path, f"{MANIFEST} is not as it was written")
    except (ValueError, RecursionError) as error:  # JSON and UTF-8
        raise DamagedCheckpoint(path, f"{MANIFEST} is not JSON") from error
    if "members" not in content:
        raise UnfitCheckpoint(path, "written by a version before 0.4, which kept all members in one file")
    if "run" not in content:
        raise UnfitCheckpoint(path, "written by a version before 0.5, which did not say of which run it is")
    if content["run"] != run:
        raise DamagedCheckpoint(path, f"it is of another run, {content['run']}; this one is {run}")
    if str(content["progress"]["step"]) != path.name:
        raise DamagedCheckpoint(path, f"it is of step {content['progress']['step']}")
    return content


def read_checked(path: Path, name: str, expected: str) -> bytes:
    """Returns what a file of a checkpoint holds; DamagedCheckpoint unless that has the digest."""
    with _reading(path, name):
        content = read_file(path / name)
    if hashlib.sha256(content).hexdigest() != expected:
        raise DamagedCheckpoint(path, f"{name} is not as it was written")
    return content


def check_files(path: Path, prefix: str, digests: Mapping[str, str]) -> None:
    """Raises DamagedCheckpoint unless every byte of the files below `prefix` is as it was written."""
    for name, expected in digests.items():
        if name.startswith(prefix):
            read_checked(path, name, expected)


@contextlib.contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    """What is not there is damage. What the system refuses otherwise (too many open files, no permission, a
    server or disk that fails) says nothing of the checkpoint."""
    try:
        yield
    except OSError as error:  # of a read, it does not know the file's name
        if error.errno in NO_FILE:
            raise DamagedCheckpoint(path, f"{name} is missing") from error
        raise cannot_read(path / name, error) from error
