"""What a checkpoint holds, said in a file of its own, with the digests that prove it whole.

orbax does not notice a flipped byte, and cuts, fills and converts arrays without a word.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from xql_jax.errors import UserError
from xql_jax.types import State

MANIFEST = "checkpoint.json"


class Damaged(UserError):
    """Part of a checkpoint is not there or not as it was written, and never will be."""


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


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _file_digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            digests[str(path.relative_to(folder))] = _file_digest(path)
    return digests


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, progress: dict[str, Any], states: Mapping[str, State]) -> None:
    """Written last: the digests of all other files, and its own."""
    members = {name: leaves_of(state) for name, state in states.items()}
    content = {"progress": progress, "members": members, "files": _file_digests(folder)}
    (folder / MANIFEST).write_text(json.dumps({**content, "digest": _digest(content)}, indent=1) + "\n")


def read_manifest(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's manifest.

    Raises:
        DamagedCheckpoint: if it is not as it was written.
        UnfitCheckpoint: if a version wrote it that kept the members in one file.
        UserError: if the system does not let it be read.
    """
    try:
        with _reading(path, MANIFEST), (path / MANIFEST).open("rb") as file:
            content = json.loads(file.read())
        if not isinstance(content, dict) or content.pop("digest", None) != _digest(content):
            raise DamagedCheckpoint(path, f"{MANIFEST} is not as it was written")
    except (ValueError, RecursionError) as error:  # JSON and UTF-8
        raise DamagedCheckpoint(path, f"{MANIFEST} is not JSON") from error
    if "members" not in content:
        raise UnfitCheckpoint(path, "written by a version before 0.4, which kept all members in one file")
    return content


def check_files(path: Path, prefix: str, digests: Mapping[str, str]) -> None:
    """Raises DamagedCheckpoint unless every byte of the files below `prefix` is as it was written."""
    for name, digest in digests.items():
        if not name.startswith(prefix):
            continue
        with _reading(path, name):
            found = _file_digest(path / name)
        if found != digest:
            raise DamagedCheckpoint(path, f"{name} is not as it was written")


@contextlib.contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    """What is not there is damage. What the system refuses otherwise (too many open files, no permission, a
    server or disk that fails) says nothing of the checkpoint."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedCheckpoint(path, f"{name} is missing") from error
    except OSError as error:  # of a read, it does not know the file's name
        raise cannot_read(path / name, error) from error
