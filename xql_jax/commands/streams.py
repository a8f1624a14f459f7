"""Standard input, output and error: closed, full, or with a reader who has gone."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from xql_jax.errors import UserError

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # by their descriptors


def open_closed() -> None:
    """Opens /dev/null in place of those that are closed: no other file is to get their numbers."""
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            assert opened == descriptor, "the lowest that is free, and those before it are open"
            os.set_inheritable(opened, True)
        if getattr(sys, name) is None:
            stream = open(descriptor, mode, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def fail(error: Exception) -> int:
    """Prints the error as one line; returns the exit code."""
    message = " ".join(str(error).split()).removeprefix("ERROR:: ")  # absl's, of --flagfile
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"error: {message}", file=sys.stderr)
    return 2


class Unwritable(UserError):
    """Standard output cannot be written."""


class _Output(io.FileIO):
    """Says of what the system refuses that it is the output's, not a file's that is written meanwhile."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritable(f"cannot write the output: {error.strerror}") from error


@contextlib.contextmanager
def output() -> Iterator[None]:
    """While entered, standard output takes any text, and raises `Unwritable` if it cannot be written.

    When left, it is written; ends with exit code 2 if it cannot be, or 141 if its reader, `head` say, has had
    enough.
    """
    stream = sys.__stdout__
    if stream is not None and sys.stdout is stream:  # else it is replaced already, or is another's
        stream.flush()
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(stream.fileno(), "w", closefd=False)),
            stream.encoding,
            "backslashreplace",  # file names need not be UTF-8
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        sys.exit(128 + signal.SIGPIPE)
    except Unwritable as error:
        _discard_output()
        sys.exit(fail(error))


def _discard_output() -> None:
    """What is left of it would be written, and fail, once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
