"""Signals that ask a run to stop after saving a checkpoint."""

import signal
import threading
from types import FrameType
from typing import Any, Self

STOPS = [each for each in signal.Signals if each.name[3:] in ("INT", "TERM", "HUP", "USR1", "USR2")]
WARNINGS = [stop for stop in STOPS if "USR" in stop.name]  # schedulers', before a time limit or a preemption


class StopSignals:
    """Context manager that records a signal of `STOPS` in `received` instead of ending the process.

    After SIGINT, SIGTERM or SIGHUP the previous handlers of the first two are restored, so that a second one
    ends the process. The others do not end it, because terminals and schedulers send them more than once.
    What is ignored when this object is made, as by `nohup`, is ignored throughout.
    Python handles signals only in the main thread. A run in another thread is stopped by `request`.
    """

    received: signal.Signals | None = None

    def __init__(self, outer: "StopSignals | None" = None) -> None:
        self._outer = outer  # has the handlers before and after this one; hears the same signals
        self._heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in self._heard:
                self._previous[number] = signal.signal(number, self._record)
        if self._outer:
            self.received = self.received or self._outer.received
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore(*self._previous)

    def hold(self) -> None:
        """Takes the handlers back from code of others, such as an environment, that has taken them."""
        for number in self._previous if not self.received else ():
            if signal.getsignal(number) != self._record:
                signal.signal(number, self._record)

    def request(self) -> None:
        """Asks the run to stop, as SIGINT does."""
        self.received = signal.SIGINT

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number)
        if number not in WARNINGS:  # SIGTERM may follow these, before the run is saved
            self._restore(signal.SIGINT, signal.SIGTERM)
        if self._outer:
            self._outer._record(number, frame)

    def _restore(self, *numbers: int) -> None:
        for number in self._previous.keys() & set(numbers):
            signal.signal(number, self._previous[number])
