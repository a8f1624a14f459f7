"""What checkpoints need: errors, digests, shapes of arrays, and an orbax that is quiet."""

import contextlib
import hashlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax

from xql_jax.errors import Damaged, UserError
from xql_jax.types import State


class UnfitCheckpoint(UserError):
    """A checkpoint that holds other arrays than the run's; `reason` says in words what is wrong."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"checkpoint {path}: {reason}")
        self.reason = reason


class DamagedCheckpoint(UnfitCheckpoint, Damaged):
    """A checkpoint with a missing or changed file; trying to read it again is of no use."""

    def __init__(self, path: Path, reason: str):
        super().__init__(path, f"damaged: {reason}")


def leaves_of(states: State) -> dict[str, str]:
    """The types and shapes of a state's arrays, by name."""
    leaves = jax.tree_util.tree_flatten_with_path(states)[0]
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def cannot_read(path: Path, error: Exception) -> UserError:
    """Returns the error for a file that the system does not let be read at present."""
    reason = system_error(error) or getattr(error, "strerror", None) or str(error)[:300]
    return UserError(f"cannot read {path}: {reason}")


def check_leaves(path: Path, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Raises UnfitCheckpoint unless the arrays are as wanted; orbax would silently convert or resize them."""
    for name in (*wanted, *found):
        if found.get(name) != wanted.get(name):
            raise UnfitCheckpoint(
                path,
                f"written for other states, by another version of the program: {name} is "
                f"{found.get(name, 'not there')}, not {wanted.get(name, 'wanted')}",
            )


def digests(folder: Path) -> dict[str, str]:
    """Returns the digest of every file in a folder, by its path there."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digests[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def system_error(error: Exception) -> str | None:
    """The operating system's message quoted in a tensorstore error (a ValueError); None if there is none."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(number[1])) if number else None


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Silences orbax's log, and what it prints about an error that is raised here anyway.

    orbax logs an error with its traceback in every thread that the error passes through. After the first
    error, tensorstore's other writes report to an event loop that is closed already, and asyncio and Python
    warn about tasks that were never awaited. These warnings can come at any later time, so they stay
    silenced after an error.
    """
    loggers, hook = (logging.getLogger("absl"), logging.getLogger("asyncio")), sys.unraisablehook

    def is_of_others(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname + record.getMessage()

    for logger in loggers:
        logger.addFilter(is_of_others)
    sys.unraisablehook = lambda unraisable: None
    try:
        yield
    except Exception:
        warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)
        raise
    sys.unraisablehook = hook
    for logger in loggers:
        logger.removeFilter(is_of_others)
