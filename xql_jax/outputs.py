"""Files that a main is told to write: looked at before the work whose result they are to hold."""

import os
from collections.abc import Collection
from pathlib import Path

from xql_jax.errors import UserError


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
    """Returns the folder that the flag names, made with all above it.

    Raises:
        UserError: if it cannot be made, or nothing can be written there.
    """
    path = Path(name).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{flag}={path}: cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"--{flag}={path}: no permission to write there")
    return path
