"""Ctrl-C: ends the program without a traceback, even if some code swallows the KeyboardInterrupt."""

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn, Self

INSISTENCE = 5.0  # seconds for cleaning up unfinished files; after them, KeyboardInterrupt is raised again


class Interruptible:
    """Context manager in which SIGINT raises KeyboardInterrupt. On exit after a SIGINT, the exit code is 130.

    Outside it, SIGINT ends the process at once, as xql_jax/commands/__init__.py has set.

    A destructor or C code may swallow the exception or turn it into another one. So SIGINT is sent again
    until the program has left the context.
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
        if sys.unraisablehook == self._note_swallowed:  # else other code has replaced the hook
            sys.unraisablehook = self._unraisable_hook
        if self._received:
            with contextlib.suppress(OSError):
                print("interrupted", file=sys.stderr)
            _end(128 + signal.SIGINT)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._received:
            self._received = True
            with contextlib.suppress(RuntimeError):  # no thread can be started: it is raised only once
                _thread.start_new_thread(self._insist, ())
        raise KeyboardInterrupt

    def _insist(self) -> None:
        """Sends SIGINT again until the context is left. It runs in a thread that does not delay the exit."""
        while True:
            if self._swallowed.wait(INSISTENCE):
                self._swallowed.clear()
                time.sleep(0.01)  # let the hook return: inside it, the exception would be swallowed again
            if self._over:
                return
            signal.pthread_kill(self._main_thread, signal.SIGINT)  # also wakes the main thread from a wait

    def _note_swallowed(self, unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._swallowed.set()
        else:
            self._unraisable_hook(unraisable)


def _end(code: int) -> NoReturn:
    """Ends the process after its exit handlers, without the interpreter's own clean-up.

    If XLA was interrupted while it compiled, that clean-up ends in a segmentation fault.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it
            stream.flush()
    os._exit(code)
