"""Leaving a run in good order when it is told to stop."""

import signal
from types import FrameType
from typing import Self


class StopSignals:
    """While entered, SIGINT and SIGTERM are noted in `received`, not obeyed; a second ends the process."""

    received: signal.Signals | None = None

    def __enter__(self) -> Self:
        self._previous = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
