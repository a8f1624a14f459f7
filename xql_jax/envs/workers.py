"""Backends that run several environments: all in this process, or each in a process of its own.

Both perform one request per environment and return one reply each, as arrays of records.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.util
import pickle
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Collection
from multiprocessing import connection, resource_tracker
from typing import TYPE_CHECKING, Any

import numpy as np

from xql_jax.envs import CORES
from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.types import Environment

if TYPE_CHECKING:
    from gymnasium import spaces

GRACE = 2.0  # seconds that workers get to end by themselves
STOPPING = 5.0  # seconds that a run waits for an answer after it is told to stop
MIDST = 5  # seconds that a message may take from its first byte to its last
AT_ONCE = 2 * CORES  # processes that start at the same time: more of them delay the first answer
TICK = 0.1  # seconds between checks of the clock, and of whether the run is told to stop


def _never() -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait for the processes of environments."""

    seconds: float = 60.0  # without an answer from any of them; starting counts, too
    is_stopping: Callable[[], bool] = _never  # is the run told to stop? Then it waits only `STOPPING` seconds


PATIENT = Patience()


def request_type(action_space: spaces.Box) -> np.dtype:
    """Returns the type of a request: to reset from the seed; or to act, and to reset if the episode ends."""
    return np.dtype([("resets", "?"), ("seed", "u4"), ("action", "f4", action_space.shape)])


def reply_type(observation_space: spaces.Box) -> np.dtype:
    """Returns the type of a reply; `start` is the first observation of a new episode, if one begins."""
    shape = observation_space.shape
    return np.dtype(
        [
            ("reward", "f8"),
            ("terminated", "?"),
            ("ended", "?"),
            ("observation", "f4", shape),
            ("start", "f4", shape),
        ]
    )


def _answer(environment: Environment, request: np.ndarray, reply: np.ndarray) -> None:
    """Performs a request, one record, in an environment, and fills in its reply."""
    resets = bool(request["resets"])
    if not resets:
        observation, reward, terminated, truncated, _ = environment.step(request["action"].copy())
        reply["observation"], reply["reward"], reply["terminated"] = observation, reward, terminated
        resets = reply["ended"] = terminated or truncated
    if resets:
        reply["start"], _ = environment.reset(seed=int(request["seed"]))


def failure(number: int, words: str) -> EnvironmentFailure:
    return EnvironmentFailure(f"environment {number} failed: {words}")


class Here:
    """All environments in this process, one after the other."""

    def __init__(self, make: Callable[[], Environment], num_environments: int):
        self._environments: list[Environment] = []
        try:
            for number in range(num_environments):
                with _naming(number):
                    self._environments.append(make())
        except BaseException:
            self.close()
            raise
        self.observation_space = self._environments[0].observation_space
        self.action_space = self._environments[0].action_space
        self._replies = reply_type(self.observation_space)

    def perform(self, requests: np.ndarray) -> np.ndarray:
        replies = np.zeros(len(requests), self._replies)
        for number, environment in enumerate(self._environments):
            with _naming(number):
                _answer(environment, requests[number], replies[number])
        return replies

    def close(self) -> None:
        for environment in self._environments:
            environment.close()
        self._environments.clear()


@contextlib.contextmanager
def _naming(number: int) -> Any:
    """Adds the environment's number to a failure."""
    try:
        yield
    except EnvironmentFailure as error:
        raise failure(number, str(error)) from error
    except UserError:
        raise
    except Exception as error:
        raise failure(number, f"{type(error).__name__}: {error}") from error


class Elsewhere:
    """One process per environment. No process is waited for longer than `patience` says."""

    def __init__(self, make: Callable[[], Environment], num_environments: int, patience: Patience = PATIENT):
        try:
            pickle.dumps(make)
        except Exception as error:  # pickle's errors are of many types
            raise ValueError(f"make cannot be sent to a process: {error}") from error
        context = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []
        self._connections: list[connection.Connection] = []
        self._patience = patience
        self._poll = select.poll()
        self._numbers: dict[int, int] = {}  # environments' numbers by their connections' file descriptors
        # Ends the processes when this object is gone or the program ends. This comes before `multiprocessing`
        # sends them SIGTERM, which they ignore, and waits for them.
        self._stop = multiprocessing.util.Finalize(
            self, _stop, (self._processes, self._connections), exitpriority=10
        )
        try:
            answers: dict[int, bytes] = {}
            while len(answers) < num_environments:
                if len(self._processes) < min(num_environments, len(answers) + AT_ONCE):
                    self._start(context, make)
                else:
                    self._receive_any(answers)
        except BaseException:
            self.close()
            raise
        self.observation_space, self.action_space = pickle.loads(answers[0])
        self._replies = reply_type(self.observation_space)

    def perform(self, requests: np.ndarray) -> np.ndarray:
        for number, request in enumerate(requests):
            try:
                self._connections[number].send_bytes(request.tobytes())
            except BlockingIOError as error:
                raise _silence(number, MIDST) from error
            except OSError:
                self._receive(number)  # its last message, from before it ended
                raise
        answers: dict[int, bytes] = {}
        while len(answers) < len(requests):
            self._receive_any(answers)
        return np.frombuffer(b"".join(answers[number] for number in range(len(requests))), self._replies)

    def close(self) -> None:
        self._stop()

    def _start(self, context: Any, make: Callable[[], Environment]) -> None:
        ours, theirs = context.Pipe()
        self._connections.append(ours)
        _limit(ours)
        self._poll.register(ours, select.POLLIN)
        self._numbers[ours.fileno()] = len(self._numbers)
        process = context.Process(target=_work, args=(make, theirs), daemon=True)
        with _signals_blocked():
            process.start()
        self._processes.append(process)
        theirs.close()  # otherwise the end of the process would not be noticed

    def _receive_any(self, answers: dict[int, bytes]) -> None:
        """Waits for one or more answers, and adds them by their environments' numbers."""
        for number in self._await_any(answers):
            answers[number] = self._receive(number)

    def _await_any(self, answered: Collection[int]) -> list[int]:
        """Waits until any worker answers or ends; returns the numbers of those that did.

        Raises:
            EnvironmentFailure: if that takes longer than `patience` allows.
        """
        began, stopping_since = time.monotonic(), None
        while not (ready := self._poll.poll(1000 * TICK)):
            now = time.monotonic()
            if stopping_since is None and self._patience.is_stopping():
                stopping_since = now
            silent = next(number for number in self._numbers.values() if number not in answered)
            if now - began >= self._patience.seconds:
                raise _silence(silent, self._patience.seconds)
            if stopping_since is not None and now - stopping_since >= STOPPING:
                raise _silence(silent, STOPPING, " after the run was told to stop")
        return [self._numbers[descriptor] for descriptor, _ in ready]

    def _receive(self, number: int) -> bytes:
        """Returns a worker's answer, of which at least the beginning has arrived.

        Raises:
            UserError: if its environment raised it; EnvironmentFailure if its process has ended or hangs.
        """
        try:
            message = self._connections[number].recv_bytes()
        except BlockingIOError as error:
            raise _silence(number, MIDST) from error
        except (EOFError, OSError) as error:
            self._processes[number].join(GRACE)
            code = self._processes[number].exitcode
            raise failure(number, f"its process ended with exit code {code}") from error
        kind, body = message[:1], message[1:]
        if kind == _USER_ERROR:
            raise UserError(body.decode())
        if kind == _ERROR:
            raise failure(number, body.decode())
        return body


def _silence(number: int, seconds: float, since: str = "") -> EnvironmentFailure:
    return EnvironmentFailure(
        f"environment {number} has not answered for {seconds:g} s{since}: it hangs, or its process is "
        "stopped; if it only takes long, give a longer --environment_timeout"
    )


def _limit(pipe: connection.Connection) -> None:
    """Makes reads and writes that wait `MIDST` seconds within a message fail with BlockingIOError."""
    seconds = struct.pack("@ll", MIDST, 0)  # a timeval
    with socket.fromfd(pipe.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)


_LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)
# The first byte of a worker's message.
_FINE, _USER_ERROR, _ERROR = b"+", b"u", b"-"


def _work(make: Callable[[], Environment], parent: connection.Connection) -> None:
    """A worker's main loop: one answer per request, until the parent hangs up or the environment fails."""
    for number in _LEFT_TO_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _LEFT_TO_PARENT)  # they were blocked during the imports
    try:
        environment = make()
        spaces_of_both = environment.observation_space, environment.action_space
        requests = request_type(environment.action_space)
        replies = reply_type(environment.observation_space)
        parent.send_bytes(_FINE + pickle.dumps(spaces_of_both))
        while (message := _next_message(parent)) is not None:
            reply = np.zeros(1, replies)
            _answer(environment, np.frombuffer(message, requests)[0], reply[0])
            parent.send_bytes(_FINE + reply.tobytes())
        environment.close()
    except Exception as error:
        with contextlib.suppress(OSError):  # the parent may have hung up
            if isinstance(error, EnvironmentFailure):
                parent.send_bytes(_ERROR + str(error).encode())
            elif isinstance(error, UserError):
                parent.send_bytes(_USER_ERROR + str(error).encode())
            else:
                parent.send_bytes(_ERROR + f"{type(error).__name__}: {error}".encode())


def _next_message(parent: connection.Connection) -> bytes | None:
    """Waits for a request; None if the parent has hung up or ended."""
    try:
        return parent.recv_bytes()
    except (EOFError, OSError):
        return None


@contextlib.contextmanager
def _signals_blocked() -> Any:
    """Blocks SIGINT and SIGTERM, also in processes started meanwhile, until these unblock them."""
    resource_tracker.ensure_running()  # else starting the first process starts it, which unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(processes: list[Any], connections: list[connection.Connection]) -> None:
    """Hangs up, waits some seconds for the workers to end, and kills those that have not."""
    for pipe in connections:
        pipe.close()
    deadline = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join(GRACE)
