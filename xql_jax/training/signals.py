"""Leaving a run in good order when it is told to stop."""

import signal
import threading
from types import FrameType
from typing import Self


class StopSignals:
    """While entered, SIGINT and SIGTERM are noted in `received`, not obeyed; a second ends the process.

    Signals reach a program's main thread alone; in others a run is stopped by `request`.
    """

    received: signal.Signals | None = None

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def request(self) -> None:
        """Asks for the stop that SIGINT asks for."""
        self.received = signal.SIGINT

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
