"""Communication between the processes of one run, on one machine or several.

Each process trains its own members (seeds and hyperparameter settings) with its own programs, so the
processes exchange little: rows of the logs, when to stop, and what a checkpoint holds. Every process has one
connection to process 0, and all messages pass through it.

JAX's distributed service is used only at the start. If the process that hosts it ends, jaxlib 0.10.2 aborts
all the others with a stack trace, and the callback that could change this cannot be written in Python.
"""

import collections
import contextlib
import json
import signal
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

from xql_jax.errors import Damaged, EnvironmentFailure, UserError
from xql_jax.training.signals import StopSignals

T = TypeVar("T")

# Independent channels over the same connection: the training loop's, and the checkpoint thread's.
LOOP, CHECKPOINTS = "loop", "checkpoints"
_STOP, _FAILED = "stop", "failed"  # messages that may arrive at any time
_LENGTH = struct.Struct("!Q")
# TCP keep-alive: seconds of silence before the first probe, seconds between probes, number of probes, and
# milliseconds in which sent data must be acknowledged. After these a machine counts as lost. The end of a
# process on a reachable machine is noticed at once.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 40_000}
# Kinds of errors that all processes raise if one does, by their name in the message.
_KINDS: dict[str, type[UserError]] = {
    "damaged": Damaged,
    "environment": EnvironmentFailure,
    "error": UserError,
}


class Lost(UserError):
    """Another process has disappeared, or has reported why it ends."""


class Processes(contextlib.AbstractContextManager):
    """This process and its connections to the other processes of the run.

    With a single process nothing is sent, and the methods use this process's values alone.

    All processes must call the methods that exchange values in the same order. The values must be
    representable in JSON. These methods raise `Lost` if another process has disappeared.

    Args:
        index: this process's number, from 0.
        count: the number of processes.
        links: connections by the other process's number. Process 0 has one to each other process; the others
            have one to process 0.
    """

    def __init__(self, index: int = 0, count: int = 1, links: Mapping[int, socket.socket] | None = None):
        self.index, self.count = index, count
        self._links = dict(links or {})
        self._sending = {peer: threading.Lock() for peer in self._links}
        self._came: dict[tuple[int, str], collections.deque[Any]] = collections.defaultdict(collections.deque)
        self._changed = threading.Condition()
        self._failure: str | None = None
        self._stop: int | None = None  # the signal that ends the run, whichever process received it
        self._closed = False
        for peer, link in self._links.items():
            _watch_over(link)
            threading.Thread(target=self._listen, args=(peer, link), daemon=True).start()

    @property
    def is_first(self) -> bool:
        """Whether this is process 0, which writes the files that the run has only once."""
        return self.index == 0

    def collect(self, value: T, conversation: str = LOOP) -> list[T] | None:
        """Sends `value` to process 0.

        Returns:
            On process 0, the values of all processes in order. Elsewhere None, without waiting.
        """
        if not self.is_first:
            self._send(0, conversation, value)
            return None
        return [value, *(self._receive(peer, conversation) for peer in sorted(self._links))]

    def exchange(self, value: T, conversation: str = LOOP) -> list[T]:
        """Returns, on every process, the values of all processes in order."""
        values = self.collect(value, conversation)
        if values is None:
            return self._receive(0, conversation)
        for peer in self._links:
            self._send(peer, conversation, values)
        return values

    def agree(self, work: Callable[[], T], conversation: str = LOOP) -> T:
        """Runs `work` on every process and returns its own result.

        If `work` raises a UserError on any process, all processes raise it.
        """
        error: UserError | None = None
        try:
            result = work()
        except UserError as raised:
            error = raised
        kind = next(name for name, known in _KINDS.items() if isinstance(error, known)) if error else ""
        told = [kind, f"process {self.index}: {error}"] if error else None
        others = self.exchange(told, conversation)
        if error:
            raise error
        for other in others:
            if other is not None:
                raise _KINDS[other[0]](other[1])
        return result

    def first(self, work: Callable[[], T], conversation: str = LOOP) -> T:
        """Runs `work` on process 0 only; all processes return its result or raise its UserError."""
        result = self.agree(lambda: work() if self.is_first else None, conversation)
        return self.exchange(result, conversation)[0]  # type: ignore[return-value]

    def pass_on(self, stop: StopSignals) -> None:
        """Sends a stop signal received here to the others, and notes in `stop` one that another received."""
        if self.count == 1:
            return
        if stop.received and self._stop is None:
            self._note_stop(int(stop.received))
        elif self._stop and not stop.received:
            stop.received = signal.Signals(self._stop)
        if self._failure:
            raise Lost(self._failure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Closes the connections; after an error, first tells the other processes, which then end too."""
        if error is not None and self._failure is None:
            why = str(error) if isinstance(error, UserError) else type(error).__name__
            self._tell_all(_FAILED, f"process {self.index} of {self.count} has ended: {why}")
        self._closed = True
        for link in self._links.values():
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_WR)  # what was sent still arrives

    def _send(self, peer: int, conversation: str, value: Any) -> None:
        content = json.dumps([conversation, value]).encode()
        try:
            with self._sending[peer]:
                self._links[peer].sendall(_LENGTH.pack(len(content)) + content)
        except OSError:
            self._fail(self._gone(peer))
            raise Lost(self._failure or self._gone(peer)) from None

    def _receive(self, peer: int, conversation: str) -> Any:
        with self._changed:
            came = self._came[peer, conversation]
            self._changed.wait_for(lambda: came or self._failure)
            if came:
                return came.popleft()
        raise Lost(self._failure or "")

    def _tell_all(self, what: str, value: Any) -> None:
        for peer in self._links:
            with contextlib.suppress(Lost):
                self._send(peer, what, value)

    def _listen(self, peer: int, link: socket.socket) -> None:
        """Receives messages until the connection ends; runs in one thread per connection."""
        try:
            while True:
                (length,) = _LENGTH.unpack(_read(link, _LENGTH.size))
                what, value = json.loads(_read(link, length))
                if what == _STOP:
                    self._note_stop(value)
                elif what == _FAILED:
                    self._fail(value)
                else:
                    with self._changed:
                        self._came[peer, what].append(value)
                        self._changed.notify_all()
        except (OSError, EOFError, ValueError):  # ValueError: what came is no message
            self._fail(self._gone(peer))

    def _note_stop(self, number: int) -> None:
        with self._changed:
            known, self._stop = self._stop, self._stop or number
        if known is None:
            self._tell_all(_STOP, number)

    def _fail(self, reason: str) -> None:
        with self._changed:
            if self._failure or self._closed:
                return
            self._failure = f"{reason}; the others stop too: type them all again with --resume to go on"
            self._changed.notify_all()
        if self.is_first:
            self._tell_all(_FAILED, reason)

    def _gone(self, peer: int) -> str:
        return f"process {peer} of {self.count} has gone"


ALONE = Processes()


def _watch_over(link: socket.socket) -> None:
    """Configures TCP keep-alive, so that the loss of the other machine or the network is noticed."""
    link.settimeout(None)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        if hasattr(socket, option):  # not every system has all
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _read(link: socket.socket, length: int) -> bytes:
    parts = []
    while length:
        part = link.recv(min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
