"""The manifest of a checkpoint: a file that lists its content, with digests that reveal damage.

It is needed because orbax does not notice a flipped byte, and silently truncates, pads and converts arrays.
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
    """A checkpoint that cannot be restored: it is damaged, or it holds other arrays than the run's.

    `reason` says in words what is wrong.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"checkpoint {path}: {reason}")
        self.reason = reason


class DamagedCheckpoint(UnfitCheckpoint, Damaged):
    """A checkpoint with a missing or changed file; trying to read it again is of no use."""

    def __init__(self, path: Path, reason: str):
        super().__init__(path, f"damaged: {reason}")


def system_error(error: Exception) -> str | None:
    """The operating system's message quoted in a tensorstore error (a ValueError); None if there is none."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(number[1])) if number else None


def cannot_read(path: Path, error: Exception) -> UserError:
    reason = system_error(error) or getattr(error, "strerror", None) or str(error)[:300]
    return UserError(f"cannot read {path}: {reason}")


def cannot_understand(path: Path, error: Exception) -> UserError:
    message = f"whole, but this version cannot read it: {type(error).__name__}: {error}"
    return UserError(f"checkpoint {path}: {message[:300]}")


def leaves_of(states: State) -> dict[str, str]:
    """The types and shapes of a state's arrays, by name."""
    leaves = jax.tree_util.tree_flatten_with_path(states)[0]
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def check_leaves(path: Path, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Raises UnfitCheckpoint unless the arrays are as wanted; orbax would silently convert or resize them."""
    for name in (*wanted, *found):
        if found.get(name) != wanted.get(name):
            raise UnfitCheckpoint(
                path,
                f"written for other states, by another version of the program: {name} is "
                f"{found.get(name, 'not there')}, not {wanted.get(name, 'wanted')}",
            )


def file_digests(folder: Path, below: str = "") -> dict[str, str]:
    """Returns the digest of every file in `folder`, or in its subfolder `below`, by path from `folder`."""
    digests = {}
    for path in sorted((folder / below).rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digests[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def write_manifest(
    folder: Path,
    run: str,
    progress: dict[str, Any],
    members: Mapping[str, Mapping[str, str]],
    files: Mapping[str, str],
) -> None:
    """Writes the manifest of a checkpoint; call it after all other files are written.

    Args:
        run: the digest of the run's identity.
        progress: as a dictionary.
        members: the types and shapes of each member's arrays.
        files: the digests of all other files. The manifest adds a digest of its own content.
    """
    content = {"run": run, "progress": progress, "members": members, "files": files}
    (folder / MANIFEST).write_text(json.dumps({**content, "digest": digest(content)}, indent=1) + "\n")


def read_manifest(path: Path, run: str) -> dict[str, Any]:
    """Returns the manifest of a checkpoint of the run `run`.

    Args:
        path: the checkpoint's folder; its name is the step.
    Raises:
        DamagedCheckpoint: if the manifest has changed, or belongs to another run or step.
        UnfitCheckpoint: if it was written by a version older than 0.5.
        UserError: if the system cannot read it.
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
        raise UnfitCheckpoint(path, "written by a version before 0.5, which did not record the run")
    if content["run"] != run:
        raise DamagedCheckpoint(path, f"it is of another run, {content['run']}; this one is {run}")
    if str(content["progress"]["step"]) != path.name:
        raise DamagedCheckpoint(path, f"it is of step {content['progress']['step']}")
    return content


def read_checked(path: Path, name: str, expected: str) -> bytes:
    """Returns the content of a checkpoint's file; DamagedCheckpoint if its digest is not `expected`."""
    with _reading(path, name):
        content = read_file(path / name)
    if hashlib.sha256(content).hexdigest() != expected:
        raise DamagedCheckpoint(path, f"{name} is not as it was written")
    return content


def check_files(path: Path, prefix: str, digests: Mapping[str, str]) -> None:
    """Raises DamagedCheckpoint if a file below `prefix` is missing or has changed."""
    for name, expected in digests.items():
        if name.startswith(prefix):
            read_checked(path, name, expected)


@contextlib.contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    """Turns OSErrors into errors about the checkpoint.

    A missing file is damage. Other errors (too many open files, no permission, a failing server or disk) do
    not mean that the checkpoint is damaged, so they become plain UserErrors.
    """
    try:
        yield
    except OSError as error:  # errors while reading do not have the file's name
        if error.errno in NO_FILE:
            raise DamagedCheckpoint(path, f"{name} is missing") from error
        raise cannot_read(path / name, error) from error
