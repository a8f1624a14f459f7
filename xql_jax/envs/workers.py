"""Where several environments run: all in this process, or each in a process of its own.

Both perform one request an environment and give one reply each, as arrays of records.
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

GRACE = 2.0  # seconds for workers to end by themselves
STOPPING = 5.0  # seconds that a run which is told to stop waits for an answer
MIDST = 5  # seconds that a message may take from its first byte to its last
AT_ONCE = 2 * CORES  # processes that are starting: more of them delay the first answer
TICK = 0.1  # seconds between looks at the clock, and at whether the run is told to stop


def _never() -> bool:
    return False


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long the processes of environments are waited for."""

    seconds: float = 60.0  # without an answer of any of them; their starts count as well
    is_stopping: Callable[[], bool] = _never  # is the run told to stop? Then `STOPPING` seconds are enough


PATIENT = Patience()


def request_type(action_space: spaces.Box) -> np.dtype:
    """What one environment is asked: to reset from the seed; or to act, and if that was the end, to reset."""
    return np.dtype([("resets", "?"), ("seed", "u4"), ("action", "f4", action_space.shape)])


def reply_type(observation_space: spaces.Box) -> np.dtype:
    """What one environment answers; `start` is of the episode that begins, if one does."""
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
    """Does what a request, of one record, asks of an environment, and fills its reply."""
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
    """Says of a failure which environment's it is."""
    try:
        yield
    except EnvironmentFailure as error:
        raise failure(number, str(error)) from error
    except UserError:
        raise
    except Exception as error:
        raise failure(number, f"{type(error).__name__}: {error}") from error


class Elsewhere:
    """A process an environment. No process is waited for longer than `patience` says."""

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
        self._numbers: dict[int, int] = {}  # of the environments, by the descriptors of their connections
        # Ends the processes when this object is gone or the program ends, before `multiprocessing` asks them
        # to end by the SIGTERM that they ignore and waits for that.
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
                self._receive(number)  # what it said before it ended
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
        theirs.close()  # or the end of the process would not be seen

    def _receive_any(self, answers: dict[int, bytes]) -> None:
        """Waits for an answer, or several, and adds them by their environments' numbers."""
        for number in self._await_any(answers):
            answers[number] = self._receive(number)

    def _await_any(self, answered: Collection[int]) -> list[int]:
        """Waits for any worker's answer or end; returns whose it is.

        Raises:
            EnvironmentFailure: if that is longer than patience allows.
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
        """Returns what a worker answers, or has begun to.

        Raises:
            UserError: if its environment raised; EnvironmentFailure if its process has ended, or halts.
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
    """Has the system end what waits `MIDST` seconds in the midst of a message, with BlockingIOError."""
    seconds = struct.pack("@ll", MIDST, 0)  # a timeval
    with socket.fromfd(pipe.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)


_LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)
# The first byte of a worker's message.
_FINE, _USER_ERROR, _ERROR = b"+", b"u", b"-"


def _work(make: Callable[[], Environment], parent: connection.Connection) -> None:
    """The life of a worker: one answer a request, until the parent hangs up or the environment fails."""
    for number in _LEFT_TO_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _LEFT_TO_PARENT)  # blocked until now, since before the imports
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
        with contextlib.suppress(OSError):  # the parent may have hung up, and want no answer
            if isinstance(error, EnvironmentFailure):
                parent.send_bytes(_ERROR + str(error).encode())
            elif isinstance(error, UserError):
                parent.send_bytes(_USER_ERROR + str(error).encode())
            else:
                parent.send_bytes(_ERROR + f"{type(error).__name__}: {error}".encode())


def _next_message(parent: connection.Connection) -> bytes | None:
    """Waits for a request; None if the parent has hung up, or is no more."""
    try:
        return parent.recv_bytes()
    except (EOFError, OSError):
        return None


@contextlib.contextmanager
def _signals_blocked() -> Any:
    """Holds SIGINT and SIGTERM back, and for processes that start meanwhile until they say otherwise."""
    resource_tracker.ensure_running()  # else the first process starts it, which lets signals through again
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
