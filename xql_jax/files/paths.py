"""Paths that users name: they begin where the command or the call began, whatever others' code changes."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from xql_jax.errors import UserError

_began_in: Path | None = None
_written: dict[str, str] = {}  # how the user wrote a path, by the absolute path


@contextlib.contextmanager
def paths_from_here() -> Iterator[None]:
    """Context manager in which relative paths begin in the folder that is current at its start.

    Code of others, such as a simulator that looks for its assets, may change the current folder meanwhile. At
    the end the first folder is current again. Within another such context it changes nothing.
    """
    global _began_in
    if _began_in is not None:
        yield
        return
    _began_in = here = Path.cwd()
    try:
        yield
    finally:
        _began_in = None
        with contextlib.suppress(OSError):  # it may be gone by now
            os.chdir(here)


def located(typed: str | Path) -> Path:
    """Returns the absolute path of a file or folder that a user names; `as_written` undoes it in messages."""
    if not isinstance(typed, str | os.PathLike):
        raise UserError(f"a {type(typed).__name__} is no path of a file or folder")
    try:
        path = Path(typed).expanduser()
    except RuntimeError as error:  # no such user, or a user without a home
        raise UserError(f"{typed}: there is no home folder {Path(typed).parts[0]}") from error
    if path.is_absolute():
        return path
    absolute = (_began_in or Path.cwd()) / path
    if path.parts:  # "." would stand in front of absolute paths
        _written[str(absolute)] = str(path)
    return absolute


def as_written(message: str) -> str:
    """Returns a message with the user's spelling of each path that `located` made absolute."""
    for path in sorted(_written, key=len, reverse=True):
        before, after = r"(?<![\w.~-])", r"(?![\w-])"  # not within another path
        message = re.sub(f"{before}{re.escape(path)}{after}", _written[path].replace("\\", r"\\"), message)
    return message
