"""A report that is made again on request if its runs have written new results."""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

from xql_jax.errors import UserError
from xql_jax.reports.report import Report
from xql_jax.runs.reporting import RunFinder

LOG = logging.getLogger(__name__)
PATIENCE = 2.0  # seconds between two checks of the runs' folders
SHARE = 4.0  # pause before the report is made again, as a multiple of the time that making it took
KINDS = {"html": "text/html", "csv": "text/csv", "tex": "text/x-tex"}


class Answer(NamedTuple):
    """The content that is served under one path."""

    kind: str  # the media type
    content: bytes


class LiveReport:
    """The files of a report, kept up to date.

    Only one thread at a time makes the report. Meanwhile, other requests get the previous files.
    """

    def __init__(self, finder: RunFinder, samples: int):
        self._finder, self._samples = finder, samples
        self._making = threading.Lock()
        self._answers: Mapping[str, Answer] = {}
        self._stamp = ""
        self._next = 0.0  # monotonic time of the next check of the folders
        self._made_before = 0.0

    def answers(self) -> Mapping[str, Answer]:
        """Returns the files to serve, by path.

        Raises:
            UserError: if the report cannot be made, and there is no previous one.
        """
        is_first = not self._answers
        if (is_first or time.monotonic() >= self._next) and self._making.acquire(blocking=is_first):
            try:
                if not self._answers or time.monotonic() >= self._next:
                    self._look()
            finally:
                self._making.release()
        return self._answers

    def _look(self) -> None:
        """Makes the report again if the runs have changed, but not too soon after the previous one."""
        self._next = time.monotonic() + PATIENCE
        try:
            stamp = _digest(repr(sorted(self._finder.stamp().items())))
            if stamp == self._stamp or time.monotonic() < self._made_before:
                return
            start = time.monotonic()
            self._answers = self._made(stamp)
            self._stamp = stamp
            self._made_before = time.monotonic() + SHARE * (time.monotonic() - start)
        except (UserError, OSError) as error:
            if not self._answers:
                raise
            LOG.warning(f"{error}; the previous report is shown")

    def _made(self, stamp: str) -> dict[str, Answer]:
        report = Report(self._finder.find(), self._finder.title, self._samples)
        page = report.page(f"As of {time.strftime('%Y-%m-%d %H:%M:%S %Z')}.", is_live=True)
        files = report.files(page)
        answers = {
            f"/{name}": Answer(KINDS[name.rsplit(".", 1)[1]], text.encode(errors="backslashreplace"))
            for name, text in files.items()
        }
        return {**answers, "/": answers["/index.html"], "/stamp": Answer("text/plain", stamp.encode())}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
