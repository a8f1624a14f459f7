"""Environments in one process each, with a limit on every wait.

Gymnasium's `AsyncVectorEnv` names no environment that hangs or has died, and its `close` waits for it.
"""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.util import Finalize
from typing import Any

import numpy as np

from xql_jax.envs.vector import UNKNOWN_SUCCESS, VectorEnv, close, describe, failure
from xql_jax.errors import UNGUARDED, EnvironmentFailure, UserError
from xql_jax.types import Environment

GRACE = 2.0  # seconds for workers to end
TICK = 0.1  # seconds; waiting is counted in them, so that a stop of the whole program does not count
LEFT_TO_PARENT = [
    number for number in signal.Signals if number.name[3:] in ("INT", "TERM", "HUP", "USR1", "USR2")
]


class Processes(VectorEnv):
    """Environments in one process each. This pays if a step takes much longer than a message's 0.1 ms.

    The results equal `Local`'s, bit for bit. The processes ignore the signals that stop a run, which
    this process handles. After a failure, such as `timeout` seconds without an answer, all have ended.
    """

    def __init__(self, make: Callable[[], Environment], num_envs: int, timeout: float = 60.0):
        super().__init__(num_envs)
        self._timeout = np.inf  # for the imports and for `make`
        self._pipes: list[Connection] = []
        self._workers: list[SpawnProcess] = []
        # Ends the processes when this object is gone or the program ends, which would else wait for them.
        self._stop = Finalize(self, _stop, (self._pipes, self._workers), exitpriority=10)
        resource_tracker.ensure_running()  # else starting the first process starts it, which unblocks signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_PARENT)  # until the workers ignore them
        try:
            for _ in range(num_envs):
                context = multiprocessing.get_context("spawn")
                ours, theirs = context.Pipe()
                worker = context.Process(target=_work, args=(theirs, make), daemon=True)
                worker.start()
                self._workers.append(worker)
                self._pipes.append(ours)
                theirs.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        made = self._asked(["spaces"] * num_envs, f" at its start: {UNGUARDED}")
        self.observation_space, self.action_space, self.steps_per_second = made[0]
        self._timeout = timeout

    def _start(self, seeds: Sequence[int | None]) -> np.ndarray:
        observations = np.zeros((self.num_envs, *self.observation_space.shape), np.float32)
        for index, answer in self._asked(seeds).items():
            observations[index] = answer
        return observations

    def _act(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, ...]:
        outcome = self.no_outcome()
        asked = [action if runs else None for action, runs in zip(actions, running, strict=True)]
        for index, answer in self._asked(asked).items():
            for column, value in zip(outcome, answer, strict=True):
                column[index] = value
        return outcome

    def close(self) -> None:
        self._stop()

    def _asked(self, requests: Sequence[Any], when: str = "") -> dict[int, Any]:
        """Returns the answers by index to all that are not None. After a failure the workers have ended."""
        asked = [index for index, request in enumerate(requests) if request is not None]
        try:
            for index in asked:
                with contextlib.suppress(ConnectionError):  # it has ended, which is reported below
                    self._pipes[index].send(requests[index])
            return {index: self._answer(index, when) for index in asked}
        except BaseException:  # interrupts, too: an answer not read would be taken for the next step's
            self.close()
            raise

    def _answer(self, index: int, when: str) -> Any:
        pipe, waited = self._pipes[index], 0.0
        while not pipe.poll(TICK):
            waited += TICK
            if waited >= self._timeout:
                raise EnvironmentFailure(
                    f"environment {index} has not answered for {self._timeout:g} s: it hangs, or its process "
                    "is stopped; if it only takes long, give a longer --environment_timeout"
                )
        try:
            answer = pipe.recv()
        except (EOFError, ConnectionError):
            worker = self._workers[index]
            worker.join(GRACE)
            raise failure(index, f"its process ended with exit code {worker.exitcode}{when}") from None
        if isinstance(answer, EnvironmentFailure):
            raise failure(index, str(answer))
        if isinstance(answer, UserError):
            raise answer
        return answer


def _work(pipe: Connection, make: Callable[[], Environment]) -> None:
    """A worker's loop, until its parent closes the pipe or has ended."""
    for number in LEFT_TO_PARENT:
        signal.signal(number, signal.SIG_IGN)
    environment: Environment | None = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            request = pipe.recv()
            answer: object
            try:
                environment = environment or make()
                answer = _answer_of(environment, request)
            except BaseException as error:  # a KeyboardInterrupt is its own: signals are ignored
                is_users = isinstance(error, UserError) and not isinstance(error, EnvironmentFailure)
                answer = UserError(str(error)) if is_users else EnvironmentFailure(describe(error))
            pipe.send(answer)
    if environment:
        close(environment)


def _answer_of(environment: Environment, request: Any) -> Any:
    """What it is; or a seed's first observation; or the outcome of an action."""
    if isinstance(request, str):
        return environment.observation_space, environment.action_space, environment.steps_per_second
    if isinstance(request, int):
        return environment.reset(seed=request)[0]
    *outcome, info = environment.step(request)
    return *outcome, info.get("success", UNKNOWN_SUCCESS)


def _stop(pipes: list[Connection], workers: list[SpawnProcess]) -> None:
    """Closes the pipes, so that workers close their environments; kills workers that last some seconds."""
    for pipe in pipes:
        pipe.close()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        worker.kill()
        worker.join()
