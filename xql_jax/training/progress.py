"""Progress of a training or other long work: its speed, the time left, and how they are shown."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from xql_jax.files.paths import as_written

LOG = logging.getLogger(__name__)
SECONDS_PER_LINE = 30.0  # between log lines that report nothing but progress


class Pace:
    """Measures the speed of a training from its step `first` on, and estimates the time left to `last`."""

    def __init__(self, first: int, last: int, unit: str):
        self._last, self._unit, self._said_at = last, unit, time.monotonic()
        self.begin_at(first)

    def begin_at(self, step: int) -> None:
        """Measures the speed from this step on, because earlier steps took a different time each."""
        self._first, self._began = step, time.monotonic()

    def has_been_silent(self) -> bool:
        return time.monotonic() - self._said_at >= SECONDS_PER_LINE

    def line(self, step: int, news: str = "", reached: int = 0) -> str:
        """Returns a line for the log: the news or else the progress, then the speed and the time left.

        The news belong to `step`; `reached` is the current step, if it is a later one.
        """
        self._said_at = time.monotonic()
        seconds = self._said_at - self._began
        said = [f"{self._unit} {step:,}" + (f": {news}" if news else f" of {self._last:,}")]
        step = max(step, reached)
        if self._first < step < self._last and seconds > 0:
            speed = (step - self._first) / seconds
            left = tqdm.format_interval((self._last - step) / speed)
            said += [f"{speed:,.{0 if speed >= 10 else 1}f} {self._unit}s/s", f"about {left} left"]
        return ", ".join(said)


class Printer(logging.Handler):
    """Prints the library's log messages without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        with contextlib.suppress(OSError):  # the terminal may close, and the run is still to be saved
            tqdm.write(prefix + as_written(record.getMessage()))
            sys.stdout.flush()


def print_lines() -> None:
    """Lets the library print its log lines, from now on and by nothing else."""
    library = logging.getLogger("xql_jax")
    library.setLevel(logging.INFO)
    library.propagate, library.handlers = False, [Printer()]


def progress_bar(total: int, unit: str, show: bool, done: int = 0, name: str | None = None) -> tqdm:
    """Returns a bar, disabled unless it can be seen, on a terminal or in a notebook.

    In a notebook it shares a stream with the lines, so that it stays below them.
    """
    in_notebook = "ipykernel" in sys.modules
    stream = sys.stdout if in_notebook else sys.stderr
    disable = (False if in_notebook else None) if show else True  # None: unless on a terminal
    return tqdm(total=total, initial=done, unit=f" {unit}s", desc=name, disable=disable, file=stream)


@contextlib.contextmanager
def counted(total: int, unit: str, show: bool, name: str = "") -> Iterator[Callable[..., None]]:
    """Shows the progress of long work by a bar or, where a bar cannot be seen, by lines in the log.

    Yields:
        A function to call with the number of units that are done anew (default: 1).
    """
    pace, done = Pace(0, total, f"{name} {unit}".strip()), 0
    with progress_bar(total, unit, show, name=name or None) as bar:

        def count(number: int = 1) -> None:
            nonlocal done
            done += number
            bar.update(number)
            if bar.disable and pace.has_been_silent():
                LOG.info(pace.line(done))

        yield count
