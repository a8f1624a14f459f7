"""Progress of a training or other long work: its speed, the time left, and how they are shown."""

import codecs
import contextlib
import logging
import sys
from typing import Any

from tqdm import tqdm

from xql_jax.files.paths import as_written

LOG = logging.getLogger(__name__)
SECONDS_PER_LINE = 30.0  # between log lines that report nothing but progress
SPEED = "{rate_fmt}, {remaining} left"


# How signs are spelled where the output's encoding lacks them, such as ASCII.
SPELLED = {"±": "+-", "→": "->", "–": "-", "−": "-", "×": "x", "≈": "~", "β": "beta", "γ": "gamma"}
AS_SPELLED = "xql_jax.spelled"  # the name of `spelled` among Python's handlers of encoding errors


def spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    """Returns in place of a sign that an encoding lacks its spelling, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    if "\udc80" <= sign <= "\udcff":  # a byte of a path that is no text
        return bytes([ord(sign) - 0xDC00]), error.start + 1
    return SPELLED.get(sign) or sign.encode("ascii", "backslashreplace").decode(), error.start + 1


codecs.register_error(AS_SPELLED, spelled)


class Printer(logging.Handler):
    """Prints the library's log messages without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        text, encoding = prefix + as_written(record.getMessage()), sys.stdout.encoding or "utf-8"
        with contextlib.suppress(OSError):  # the terminal may close, and the run is still to be saved
            tqdm.write(text.encode(encoding, AS_SPELLED).decode(encoding, "surrogateescape"))
            sys.stdout.flush()


def print_lines() -> None:
    """Lets the library print its log lines, from now on and by nothing else."""
    library = logging.getLogger("xql_jax")
    library.setLevel(logging.INFO)
    library.propagate, library.handlers = False, [Printer()]


class _Log:
    """A file whose lines go to the log."""

    def write(self, text: str) -> None:
        if line := text.strip():
            LOG.info(line)


def progress_bar(total: int, unit: str, show: bool, done: int = 0, name: str | None = None) -> tqdm:
    """Returns a bar for a terminal or a notebook; where none can be seen it writes lines to the log instead.

    In a notebook it shares a stream with the lines, so that it stays below them.
    """
    in_notebook = "ipykernel" in sys.modules
    stream = sys.stdout if in_notebook else sys.stderr
    options: dict[str, Any] = {"total": total, "initial": done, "unit": f" {unit}s", "desc": name}
    if show and (in_notebook or stream.isatty()):
        return tqdm(**options, file=stream)
    form = f"{name or ''} {unit} {{n:,}} of {total:,}{{postfix}}, {SPEED}"
    pauses: dict[str, Any] = {"mininterval": SECONDS_PER_LINE, "delay": SECONDS_PER_LINE, "miniters": 1}
    return tqdm(**options, **pauses, file=_Log(), bar_format=form, leave=False)


def speed_of(bar: tqdm) -> str:
    """Returns the mean speed since the bar began, and the time left, in words."""
    # Not `rate`: this is the rate at the bar's last picture, and a log has a picture every half a minute.
    return bar.format_meter(**{**bar.format_dict, "rate": None, "bar_format": SPEED}).strip()
