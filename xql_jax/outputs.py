"""Output files and folders named by flags: whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from xql_jax.errors import UserError
from xql_jax.files import sync


def check_output(flag: str, name: str, suffixes: Collection[str] = ()) -> Path:
    """Returns the path of an output file, which the flag names; UserError if it could not be written.

    It may exist; the folders above it need not. Without `suffixes` any suffix is allowed.
    """
    path = Path(name).expanduser()
    where = f"--{flag}={path}"
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{where}: unknown suffix {path.suffix!r}; known: {', '.join(suffixes)}")
    try:
        if path.is_dir():
            raise UserError(f"{where}: cannot be written: it is a directory")
        folder = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:  # a name that is too long, a loop of links
        raise UserError(f"{where}: cannot be written: {error.strerror}") from error
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{where}: cannot be written: {folder} is not a directory that you may write to")
    return path


@contextlib.contextmanager
def writing_output(flag: str, path: Path) -> Iterator[Path]:
    """Context manager that yields a path to write a file or folder to, which becomes `path` if nothing fails.

    Missing folders above it are made. UserError, with flag and file, if the system refuses something.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=path.parent) as folder:
            unfinished = Path(folder) / path.name
            yield unfinished
            for part in (*unfinished.rglob("*"), unfinished):
                sync(part)
            os.replace(unfinished, path)
        sync(path.parent)
    except OSError as error:
        stays = "; the old file is as it was" if path.exists() else ""
        reason = error.strerror or str(error)
        raise UserError(f"--{flag}={path}: cannot be written: {reason}{stays}") from error


def make_folder(flag: str, name: str) -> Path:
    """Makes the folder for outputs that the flag names, with its parents; UserError if it cannot be used."""
    path = Path(name).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{flag}={path}: cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"--{flag}={path}: no permission to write there")
    return path
