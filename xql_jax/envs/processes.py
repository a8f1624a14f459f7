"""Environments in one process each, by Gymnasium's `AsyncVectorEnv`, with a limit on every wait.

Its own time-outs do not do: they name no environment, `close` waits for one that hangs, and Ctrl-C ends all.
"""

import contextlib
import multiprocessing.util
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import _async_worker

from xql_jax.envs.vector import (
    PATIENT,
    UNKNOWN_SUCCESS,
    GymStep,
    Info,
    Patience,
    Start,
    VectorEnv,
    close,
    describe,
    failure,
    naming,
)
from xql_jax.errors import UNGUARDED, EnvironmentFailure, UserError
from xql_jax.types import Environment

GRACE = 2.0  # seconds for workers to end
STOPPING = 5.0  # seconds that a run waits for an answer once it is to stop
TICK = 0.1  # seconds between checks of whether the run is to stop
IS_SUPPORTED = hasattr(select, "poll")  # not on Windows
LEFT_TO_PARENT = [one for one in signal.Signals if one.name[3:] in ("INT", "TERM", "HUP", "USR1", "USR2")]


class Processes(VectorEnv):
    """Environments in one process each. This pays if a step takes much longer than a message's 0.1 ms.

    The results are those of `Local`, bit for bit. All always have an episode. The processes ignore the
    signals that stop a run, which this process handles. After a failure all of them have ended.
    """

    def __init__(self, make: Callable[[], Environment], num_envs: int, patience: Patience = PATIENT):
        if not IS_SUPPORTED:
            raise UserError("--processes is not for Windows: leave it out")
        super().__init__(num_envs)
        self._patience = patience
        made = [lambda: _Reporting(make())] * num_envs  # type: ignore[arg-type]
        with _signals_blocked(), naming(0):
            try:
                self._envs = AsyncVectorEnv(
                    made, context="spawn", worker=_work, autoreset_mode=AutoresetMode.DISABLED
                )
            except (EOFError, ConnectionError) as error:  # it ended before it had an environment
                raise UserError(f"--processes: one ended at its start: {UNGUARDED}") from error
        self.observation_space = self._envs.single_observation_space  # type: ignore[assignment]
        self.action_space = self._envs.single_action_space  # type: ignore[assignment]
        self._pollers = [select.poll() for _ in range(num_envs)]  # quicker than a pipe's own `poll`
        for poller, pipe in zip(self._pollers, self._envs.parent_pipes, strict=True):
            poller.register(pipe, select.POLLIN)
        # Ends the processes when this object is gone or the program ends, which would else wait for them.
        self._stop = multiprocessing.util.Finalize(self, _stop, (self._envs,), exitpriority=10)

    def _start(self, seeds: Sequence[int | None]) -> np.ndarray:
        mask = np.array([seed is not None for seed in seeds])
        observations, _ = self._asked("reset", seed=list(seeds), options={"reset_mask": mask})
        return observations

    def _act(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, ...]:
        *outcome, infos = self._asked("step", actions)
        return *outcome, infos["success"].astype(np.int8)

    def close(self) -> None:
        self._stop()

    def _asked(self, what: str, *arguments: object, **options: object) -> tuple[Any, ...]:
        """Returns the workers' answers to reset or step. After a failure all of them have ended."""
        try:
            with contextlib.suppress(BrokenPipeError):  # then one has ended, which is reported below
                getattr(self._envs, f"{what}_async")(*arguments, **options)
            self._await_answers()
            *answers, infos = getattr(self._envs, f"{what}_wait")()
            if "failure" in infos:
                index = int(infos["_failure"].argmax())
                raise failure(index, infos["failure"][index])
        except BaseException:  # interrupts, too: an answer not read would be taken for the next step's
            self.close()
            raise
        return *answers, infos

    def _await_answers(self) -> None:
        """Waits until all workers have answered; EnvironmentFailure if one has ended, or takes too long."""
        waited = stopping = 0.0
        for index, poller in enumerate(self._pollers):
            while not (events := poller.poll(1000 * TICK)):
                waited += TICK
                stopping += TICK if self._patience.is_stopping() else 0.0
                if waited >= self._patience.seconds:
                    raise _silence(index, f"{self._patience.seconds:g} s")
                if stopping >= STOPPING:
                    raise _silence(index, f"{STOPPING:g} s after the run was told to stop")
            if events[0][1] & select.POLLHUP:
                process = self._envs.processes[index]
                process.join(GRACE)
                raise failure(index, f"its process ended with exit code {process.exitcode}")


class _Reporting(gymnasium.Wrapper):
    """Reports failures in `info`: for an exception, Gymnasium would print a traceback without the index."""

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> Start:
        nothing = np.zeros(self.env.observation_space.shape or (), np.float32)
        try:
            return self.env.reset(seed=seed)[0], {}
        except BaseException as error:  # signals are left to the parent: KeyboardInterrupt is its own, too
            return nothing, {"failure": describe(error)}

    def step(self, action: np.ndarray) -> GymStep:
        nothing = np.zeros(self.env.observation_space.shape or (), np.float32)
        try:
            *outcome, info = self.env.step(action)
            return *outcome, {"success": int(info.get("success", UNKNOWN_SUCCESS))}
        except BaseException as error:
            return nothing, 0.0, False, False, {"success": UNKNOWN_SUCCESS, "failure": describe(error)}

    def close(self) -> None:
        close(self.env)  # type: ignore[arg-type]


def _silence(index: int, time: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"environment {index} has not answered for {time}: it hangs, or its process is stopped; if it only "
        "takes long, give a longer --environment_timeout"
    )


def _work(*arguments: Any) -> None:
    """A worker's main loop: Gymnasium's, with signals left to the parent, and silent without a parent."""
    for number in LEFT_TO_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_PARENT)  # they were blocked during the imports
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _async_worker(*arguments)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Blocks the signals LEFT_TO_PARENT, also in processes started meanwhile, until these unblock them."""
    resource_tracker.ensure_running()  # else starting the first process starts it, which unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(envs: AsyncVectorEnv) -> None:
    """Tells the workers to close their environments; kills those that have not ended after some seconds."""
    for pipe in envs.parent_pipes:
        with contextlib.suppress(OSError):
            pipe.send(("close", None))
    deadline = time.monotonic() + GRACE
    for process in envs.processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()
    for pipe in envs.parent_pipes:
        pipe.close()
    envs.closed = True  # else Gymnasium would close them again
