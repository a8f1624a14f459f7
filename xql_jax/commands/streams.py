"""Standard input, output and error when they are closed, on a full disk, or a pipe whose reader has ended."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from xql_jax.errors import UserError

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # in the order of their file descriptors


def open_closed() -> None:
    """Opens /dev/null for each closed stream, so that no other file gets its descriptor."""
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
    message = " ".join(str(error).split()).removeprefix("ERROR:: ")  # absl's prefix for --flagfile
    with contextlib.suppress(OSError):  # stderr has no reader
        print(f"error: {message}", file=sys.stderr)
    return 2


class Unwritable(UserError):
    """Standard output cannot be written."""


class _Output(io.FileIO):
    """Standard output whose write errors are `Unwritable`, to tell them from those of other files."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritable(f"cannot write the output: {error.strerror}") from error


@contextlib.contextmanager
def output() -> Iterator[None]:
    """Context manager in which standard output takes any text, and raises `Unwritable` if a write fails.

    On exit, it flushes the output. The process ends with exit code 2 if that fails, or 141 if the reader,
    such as `head`, has closed the pipe.
    """
    stream = sys.__stdout__
    if stream is not None and sys.stdout is stream:  # else other code has replaced it
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
    """Redirects standard output to /dev/null; else the interpreter's last flush would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
