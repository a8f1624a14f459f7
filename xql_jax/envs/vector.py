"""Several environments stepped together, in this process or one process each."""

import contextlib
import multiprocessing
import multiprocessing.util
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection, resource_tracker
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from xql_jax.errors import EnvironmentFailure, UserError
from xql_jax.types import Batch, Environment

GRACE = 2.0  # seconds for workers to end by themselves


class StepResult(NamedTuple):
    """What one step of N environments gave. The arrays are new at every step and never written again."""

    transitions: (
        Any  # Batch of NumPy arrays [N, ...]; the next observation is the episode's own, never a start
    )
    observations: np.ndarray  # f32[N, O] to act on next: the start of a new episode where one ended
    ended: np.ndarray  # bool[N], by a terminal state or a time-out
    returns: np.ndarray  # f64[N], undiscounted, of the episodes that ended; elsewhere 0
    lengths: np.ndarray  # i64[N], steps of the episodes that ended; elsewhere 0


class Counters(NamedTuple):
    """Which episodes are running: all that a run needs in order to start them again."""

    seeds: np.ndarray  # i64[N], as given to `reset`
    episodes: np.ndarray  # i64[N], the number of each environment's running episode, from 0


class VectorEnvironment:
    """N environments that step together, each of which starts a new episode in the step that ends one.

    Episode e of environment i starts from `start_seed(seeds[i], i, e)`: a run is reproducible, whatever N and
    wherever the environments are.

    Args:
        make: makes one environment. With `processes` it is pickled: a function of a module, or a
            `functools.partial` of one.
        num_environments: N, at least 1.
        processes: give each environment a process of its own, which pays where a step takes much longer than
            the 0.1 ms of a message and its answer; the results are the same, bit for bit. The processes
            import the program's main module, and leave SIGINT and SIGTERM to this one.
    Raises:
        ValueError: if `num_environments` is less than 1, or `make` cannot be pickled but must be.
        UserError: as `make` raises it.
        EnvironmentFailure: naming the environment, if `make` fails otherwise.
    """

    def __init__(self, make: Callable[[], Environment], num_environments: int, *, processes: bool):
        if num_environments < 1:
            raise ValueError(f"num_environments must be at least 1, not {num_environments}")
        self.num_environments = num_environments
        self._backend: _Here | _Elsewhere | None
        self._backend = (_Elsewhere if processes else _Here)(make, num_environments)
        self.observation_space, self.action_space = (
            self._backend.observation_space,
            self._backend.action_space,
        )
        self._observations: np.ndarray | None = None  # f32[N, O], of the present; None before a reset

    def reset(self, seeds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Starts episode 0 of each environment.

        Args:
            seeds: N of them, non-negative; equal ones make different episodes, for the environment's number
                counts too.
        Returns:
            f32[N, O], the observations to act on.
        Raises:
            ValueError: if there are not N seeds, or one is negative.
            EnvironmentFailure: naming the environment.
        """
        seeds = np.asarray(seeds)
        return self.restore(Counters(seeds, np.zeros(seeds.shape, np.int64)))

    def restore(self, counters: Counters) -> np.ndarray:
        """Starts again the episodes that were running when `state` gave these counters, from their starts.

        Returns and raises as `reset`.
        """
        for name, values in counters._asdict().items():
            fits = values.shape == (self.num_environments,) and values.dtype.kind in "iu"
            if not fits or values.min() < 0:
                raise ValueError(
                    f"{name} must be {self.num_environments} non-negative integers, not {values.tolist()}"
                )
        self._counters = Counters(*(values.astype(np.int64) for values in counters))
        self._returns = np.zeros(self.num_environments)
        self._lengths = np.zeros(self.num_environments, np.int64)
        requests = self._requests(np.zeros((self.num_environments, *self.action_space.shape), np.float32))
        requests["resets"] = True
        requests["seed"] = self._seeds_of(self._counters.episodes)
        self._next_seeds = self._seeds_of(self._counters.episodes + 1)
        self._observations = self._perform(requests)["start"].copy()
        return self._observations

    def state(self) -> Counters:
        """Returns the counters, for `restore`."""
        self._check_reset()
        return Counters(*(values.copy() for values in self._counters))

    def step(self, actions: np.ndarray) -> StepResult:
        """Steps each environment, and starts a new episode where that ended one.

        Args:
            actions: f32[N, A]; clipped to the action space, and so they stand in the transitions.
        Raises:
            ValueError: if there was no reset, or the actions' shape is wrong.
            FloatingPointError: if an action is NaN or infinite.
            EnvironmentFailure: naming the environment, also of what it gave that is not finite; all are
                closed then.
        """
        before = self._check_reset()
        actions = np.asarray(actions, np.float32)
        expected = (self.num_environments, *self.action_space.shape)
        if actions.shape != expected:
            raise ValueError(f"actions must be of shape {expected}, not {actions.shape}")
        if not np.isfinite(actions).all():
            row = np.argwhere(~np.isfinite(actions))[0][0]
            raise FloatingPointError(f"environment {row}: a non-finite action, {actions[row].tolist()}")
        actions = np.clip(actions, self.action_space.low, self.action_space.high)
        requests = self._requests(actions)
        requests["seed"] = self._next_seeds
        replies = self._perform(requests)

        ended, after = replies["ended"].copy(), replies["observation"].copy()
        self._observations = np.where(ended[:, None], replies["start"], after) if ended.any() else after
        self._returns += replies["reward"]
        self._lengths += 1
        returns, lengths = np.where(ended, self._returns, 0.0), np.where(ended, self._lengths, 0)
        if ended.any():
            self._returns[ended], self._lengths[ended] = 0.0, 0
            self._counters.episodes[ended] += 1
            self._next_seeds = self._seeds_of(self._counters.episodes + 1)
        transitions: Any = Batch(
            before,  # type: ignore[arg-type]  # of NumPy, as its owner says
            actions,  # type: ignore[arg-type]
            replies["reward"].astype(np.float32),  # type: ignore[arg-type]
            (~replies["terminated"]).astype(np.float32),  # type: ignore[arg-type]
            after,  # type: ignore[arg-type]
        )
        return StepResult(transitions, self._observations, ended, returns, lengths)

    def close(self) -> None:
        """Closes the environments and ends their processes, after some seconds by force."""
        self._observations = None
        if self._backend:
            self._backend.close()
        self._backend = None

    def _requests(self, actions: np.ndarray) -> np.ndarray:
        requests = np.zeros(self.num_environments, _request_type(self.action_space))
        requests["action"] = actions
        return requests

    def _seeds_of(self, episodes: np.ndarray) -> list[int]:
        pairs = zip(self._counters.seeds.tolist(), episodes.tolist(), strict=True)
        return [start_seed(seed, i, episode) for i, (seed, episode) in enumerate(pairs)]

    def _perform(self, requests: np.ndarray) -> np.ndarray:
        if self._backend is None:
            raise ValueError("the environments are closed")
        try:
            replies = self._backend.perform(requests)
            _check_finite(replies)
            return replies
        except BaseException:  # an interrupt too: replies that nobody took would pass for the next step's
            self.close()
            raise

    def _check_reset(self) -> np.ndarray:
        if self._observations is None:
            raise ValueError("the environments were not reset, or are closed")
        return self._observations


def start_seed(seed: int, environment: int, episode: int) -> int:
    """Returns the seed of an environment's episode, in [0, 2**32).

    It shares nothing with `evaluation.rollout.episode_seed`, whatever the seeds.
    """
    return int(np.random.SeedSequence(seed, spawn_key=(environment, episode)).generate_state(1)[0])


def _request_type(action_space: spaces.Box) -> np.dtype:
    """What one environment is asked: to reset from the seed; or to act, and if that was the end, to reset."""
    return np.dtype([("resets", "?"), ("seed", "u4"), ("action", "f4", action_space.shape)])


def _reply_type(observation_space: spaces.Box) -> np.dtype:
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


def _check_finite(replies: np.ndarray) -> None:
    """Raises EnvironmentFailure: a number that is not finite would stay in what is learned from for long."""
    for name in ("reward", "observation", "start"):
        finite = np.isfinite(replies[name]).reshape(len(replies), -1).all(1)
        if not finite.all():
            raise _failure(int(finite.argmin()), f"its {name} is not finite")


def _failure(number: int, words: str) -> EnvironmentFailure:
    return EnvironmentFailure(f"environment {number} failed: {words}")


class _Here:
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
        self._replies = _reply_type(self.observation_space)

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
        raise _failure(number, str(error)) from error
    except UserError:
        raise
    except Exception as error:
        raise _failure(number, f"{type(error).__name__}: {error}") from error


class _Elsewhere:
    """A process an environment."""

    def __init__(self, make: Callable[[], Environment], num_environments: int):
        try:
            pickle.dumps(make)
        except Exception as error:  # pickle's errors are of many types
            raise ValueError(f"make cannot be sent to a process: {error}") from error
        context = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []
        self._connections: list[connection.Connection] = []
        # Ends the processes when this object is gone or the program ends, before `multiprocessing` asks them
        # to end by the SIGTERM that they ignore and waits for that.
        self._stop = multiprocessing.util.Finalize(
            self, _stop, (self._processes, self._connections), exitpriority=10
        )
        try:
            with _signals_blocked():
                for _ in range(num_environments):
                    ours, theirs = context.Pipe()
                    self._connections.append(ours)
                    process = context.Process(target=_work, args=(make, theirs), daemon=True)
                    process.start()
                    self._processes.append(process)
                    theirs.close()  # or the end of the process would not be seen
            answers = [self._receive(number) for number in range(num_environments)]
        except BaseException:
            self.close()
            raise
        self.observation_space, self.action_space = pickle.loads(answers[0])
        self._replies = _reply_type(self.observation_space)

    def perform(self, requests: np.ndarray) -> np.ndarray:
        for number, request in enumerate(requests):
            try:
                self._connections[number].send_bytes(request.tobytes())
            except OSError:
                self._receive(number)  # what it said before it ended
                raise
        replies = b"".join([self._receive(number) for number in range(len(requests))])
        return np.frombuffer(replies, self._replies)

    def close(self) -> None:
        self._stop()

    def _receive(self, number: int) -> bytes:
        """Returns what a worker answers.

        Raises:
            UserError: if its environment raised; EnvironmentFailure if its process has ended.
        """
        try:
            message = self._connections[number].recv_bytes()
        except (EOFError, OSError) as error:
            self._processes[number].join(GRACE)
            code = self._processes[number].exitcode
            raise _failure(number, f"its process ended with exit code {code}") from error
        kind, body = message[:1], message[1:]
        if kind == _USER_ERROR:
            raise UserError(body.decode())
        if kind == _ERROR:
            raise _failure(number, body.decode())
        return body


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
        requests = _request_type(environment.action_space)
        replies = _reply_type(environment.observation_space)
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
