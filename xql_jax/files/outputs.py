"""Output files named by flags: whole or not at all."""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from xql_jax.errors import UserError
from xql_jax.files import replacing
from xql_jax.files.paths import located


def check_output(flag: str, name: str, suffixes: Collection[str] = ()) -> Path:
    """Returns the path of an output file, which the flag names; UserError if it cannot be written.

    It may exist; the folders above it need not. Without `suffixes` any suffix is allowed.
    """
    path = located(name)
    where = f"--{flag}={path}"
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{where}: unknown suffix {path.suffix!r}; known: {', '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"{where}: cannot be written: it is a directory")
    folder = next(folder for folder in path.parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{where}: cannot be written: {folder} is not a directory that you may write to")
    return path


@contextlib.contextmanager
def writing_output(flag: str, path: Path) -> Iterator[Path]:
    """Context manager that yields a path to write to, which becomes `path` if nothing fails.

    Missing folders above it are made. UserError, with flag and file, if the system refuses something.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, f".unfinished-{path.name}") as unfinished:
            yield unfinished
    except OSError as error:
        stays = "; the old file is as it was" if path.exists() else ""
        raise UserError(f"--{flag}={path}: cannot be written: {error.strerror or error}{stays}") from error


def write_output(flag: str, path: Path, content: str | bytes) -> None:
    """Writes an output file whole or not at all, see `writing_output`."""
    with writing_output(flag, path) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
