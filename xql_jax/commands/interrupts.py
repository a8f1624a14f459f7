"""Ctrl-C: quiet whenever it comes, and heard even where something swallows it."""

import _thread
import contextlib
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Self

INSISTENCE = 5.0  # seconds for what is in the making to be removed; then it is raised again


class Interruptible:
    """While entered, SIGINT raises KeyboardInterrupt; when left after one, the exit code is 130.

    Outside, it ends the process at once, as the package's beginning has asked for.

    What was raised may be swallowed, by a destructor or by code in C, or come out as another exception. It is
    the interrupt that counts, and it is raised again until the program is out of here.
    """

    def __enter__(self) -> Self:
        self._received = self._over = False
        self._swallowed, self._main_thread = threading.Event(), threading.get_ident()
        self._unraisable_hook, sys.unraisablehook = sys.unraisablehook, self._note_swallowed
        self._installed = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        if self._installed:
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *exception: object) -> None:
        self._over = True
        if self._installed:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if sys.unraisablehook == self._note_swallowed:  # else somebody keeps more silent, to the end
            sys.unraisablehook = self._unraisable_hook
        if self._received:
            with contextlib.suppress(OSError):
                print("interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._received:
            self._received = True
            with contextlib.suppress(RuntimeError):  # no more threads: it is raised but once
                _thread.start_new_thread(self._insist, ())
        raise KeyboardInterrupt

    def _insist(self) -> None:
        """In a thread, which holds nobody up."""
        while True:
            if self._swallowed.wait(INSISTENCE):
                self._swallowed.clear()
                time.sleep(0.01)  # until the hook is left, where it would be swallowed again
            if self._over:
                return
            signal.pthread_kill(self._main_thread, signal.SIGINT)  # ends a wait, too

    def _note_swallowed(self, unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._swallowed.set()
        else:
            self._unraisable_hook(unraisable)
