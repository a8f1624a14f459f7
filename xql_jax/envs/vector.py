"""Several environments that step together: here, in one process each, or as one compiled program."""

from __future__ import annotations

import concurrent.futures
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xql_jax.errors import EnvironmentFailure, UserError, described, place_of
from xql_jax.types import Batch, Environment, Info

if TYPE_CHECKING:  # takes half a second to import
    from gymnasium import spaces

UNKNOWN_SUCCESS = -1  # the environment does not say whether the episode succeeds
RESET, STEP = "observation, info", "observation, reward, terminated, truncated, info"

# From an environment's index to the seed of its next episode; None: no more.
NextSeed = Callable[[int], int | None]
# What an environment's `reset` and `step` return.
Start = tuple[np.ndarray, Info]
GymStep = tuple[np.ndarray, float, bool, bool, Info]


class VectorStep(NamedTuple):
    """One step of N environments. The arrays are new, and are never changed later.

    An environment without an episode (idle) keeps its observation, gets reward 0, and does not end.
    """

    observations: np.ndarray  # f32[N, O], to act on next: the first of the episodes that begin
    actions: np.ndarray  # [N, A], as they acted: clipped to the action space
    rewards: np.ndarray  # f64[N]
    terminals: np.ndarray  # bool[N]
    truncations: np.ndarray  # bool[N], by a time limit; never together with a terminal
    final_observations: np.ndarray  # f32[N, O], reached by this step, never of a new episode
    successes: np.ndarray  # i8[N], whether the episode has succeeded by now: 1, 0 or UNKNOWN_SUCCESS
    returns: np.ndarray  # f64[N], undiscounted, of the episodes up to and with this step
    lengths: np.ndarray  # i64[N], steps likewise
    infos: Sequence[Info]  # N, what `info` each environment of `Local` returned in this step; else {}

    @property
    def ended(self) -> np.ndarray:
        return self.terminals | self.truncations

    def transitions(self, observations: np.ndarray) -> Batch:
        """Returns the transitions from these observations f32[N, O], as NumPy arrays."""
        rewards, masks = self.rewards.astype(np.float32), (~self.terminals).astype(np.float32)
        fields = observations, self.actions, rewards, masks, self.final_observations
        return Batch(*fields)  # type: ignore[arg-type]  # NumPy's arrays


class VectorEnv(ABC):
    """N environments that step together; where an episode ends, the next begins in the same step.

    Each episode is determined by its seed alone, wherever the environments run and however many there are.
    The kinds are `Local`, `envs.processes.Processes` and `envs.compiled.CompiledEnv`.
    """

    observation_space: spaces.Box  # of each environment
    action_space: spaces.Box
    steps_per_second: float  # of simulated time
    running: np.ndarray  # bool[N], which environments have an episode

    def __init__(self, num_envs: int):
        self.num_envs = num_envs
        self._infos: list[Info] = [{}] * num_envs  # of the last step

    @abstractmethod
    def _start(self, seeds: Sequence[int | None]) -> np.ndarray:
        """Starts an episode where there is a seed; returns f32[N, O], in which the rows with a seed count."""

    @abstractmethod
    def _act(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, ...]:
        """Steps the environments that are `running` bool[N].

        Returns observations, rewards, terminations, truncations, and successes or UNKNOWN_SUCCESS, each [N].
        """

    def no_outcome(self) -> tuple[np.ndarray, ...]:
        """Returns what `_act` does if no environment is running."""
        observations = np.zeros((self.num_envs, *self.observation_space.shape), np.float32)
        successes = np.full(self.num_envs, UNKNOWN_SUCCESS, np.int8)
        return observations, np.zeros(self.num_envs), *np.zeros((2, self.num_envs), bool), successes

    def render(self) -> np.ndarray:
        """Returns a picture of environment 0, u8[height, width, 3]; UserError if it draws none."""
        raise NotImplementedError

    @abstractmethod
    def close(self) -> None: ...

    def reset(self, seeds: Sequence[int | None], next_seed: NextSeed = lambda index: None) -> np.ndarray:
        """Starts an episode in each environment; returns f32[N, O], the observations to act on.

        `seeds` are N, in [0, 2**32); with None an environment stays idle, and observes zeros. `next_seed`
        gives the seed of the episode after an ended episode, in the environments' order.
        """
        self._next_seed = next_seed
        self.running = np.zeros(self.num_envs, bool)
        self._returns, self._lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
        self._successes = np.full(self.num_envs, UNKNOWN_SUCCESS, np.int8)
        self._observations = np.zeros((self.num_envs, *self.observation_space.shape), np.float32)
        self._begin(seeds)
        return self._observations

    def step(self, actions: np.ndarray) -> VectorStep:
        """Acts once in each environment that has an episode, by actions [N, A] clipped to the action space.

        FloatingPointError if an action is not finite; EnvironmentFailure, which names the environment, if it
        fails or what it returns is not finite.
        """
        space, shape = self.action_space, (self.num_envs, *self.action_space.shape)
        actions = np.asarray(actions)
        if actions.shape != shape:
            raise ValueError(f"actions must be of shape {shape}, not {actions.shape}")
        finite = np.isfinite(actions)
        if not finite.all():
            raise FloatingPointError(f"environment {np.argwhere(~finite)[0][0]}: an action is not finite")
        actions = np.clip(actions, space.low, space.high)
        running = self.running
        reached, rewards, terminals, truncations, successes = self._act(actions, running)
        _check_finite(running, reward=rewards, observation=reached)
        if not running.all():
            reached = np.where(running[:, None], reached, self._observations)
        truncations = truncations & ~terminals
        successes = np.maximum(self._successes, successes)
        returns, lengths = self._returns + rewards, self._lengths + running
        self._observations, self._successes = reached, successes
        self._returns, self._lengths = returns, lengths
        ended = terminals | truncations
        if ended.any():
            self.running = running & ~ended
            self._begin([self._next_seed(i) if over else None for i, over in enumerate(ended.tolist())])
        observations = self._observations  # where an episode has begun, its first
        return VectorStep(
            observations, actions, rewards, terminals, truncations, reached, successes, returns, lengths,
            self._infos,
        )  # fmt: skip

    def _begin(self, seeds: Sequence[int | None]) -> None:
        begins = np.array([seed is not None for seed in seeds])
        if begins.any():
            starts = self._start(seeds)
            _check_finite(begins, observation=starts)
            self._observations = np.where(begins[:, None], starts, self._observations)
            self._returns = np.where(begins, 0.0, self._returns)
            self._lengths = np.where(begins, 0, self._lengths)
            self._successes = np.where(begins, np.int8(UNKNOWN_SUCCESS), self._successes)
            self.running = self.running | begins


class Local(VectorEnv):
    """Environments in this process, stepped in turn or by several threads, see `Suite.max_threads`."""

    def __init__(self, make: Callable[[], Environment], num_envs: int, num_threads: int = 1):
        super().__init__(num_envs)
        self._environments: list[Environment] = []
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None
        try:
            for index in range(num_envs):
                with naming(index):
                    self._environments.append(make())
        except BaseException:
            self.close()
            raise
        first = self._environments[0]
        self.observation_space, self.action_space = first.observation_space, first.action_space
        self.steps_per_second = first.steps_per_second
        self._num_threads = num_threads = min(num_threads, num_envs)
        if num_threads > 1:
            self._threads = concurrent.futures.ThreadPoolExecutor(num_threads)

    def _start(self, seeds: Sequence[int | None]) -> np.ndarray:
        observations = np.zeros((self.num_envs, *self.observation_space.shape), np.float32)
        for index, (environment, seed) in enumerate(zip(self._environments, seeds, strict=True)):
            if seed is not None:
                with naming(index):
                    observations[index], _ = environment.reset(seed=seed)
        return observations

    def _act(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, ...]:
        outcome = self.no_outcome()
        observations, rewards, terminals, truncations, successes = outcome
        infos: list[Info] = [{}] * self.num_envs

        def step(indices: list[int]) -> None:
            for i in indices:
                with naming(i):
                    result = self._environments[i].step(actions[i].copy())
                    observations[i], rewards[i], terminals[i], truncations[i], infos[i] = result
                    successes[i] = infos[i].get("success", UNKNOWN_SUCCESS)

        indices = running.nonzero()[0].tolist()
        if self._threads:
            shares = [indices[i :: self._num_threads] for i in range(self._num_threads)]
            list(self._threads.map(step, shares))
        else:
            step(indices)
        self._infos = infos
        return outcome

    def render(self) -> np.ndarray:
        return self._environments[0].render()

    def close(self) -> None:
        if self._threads:
            self._threads.shutdown()  # first, so that none still steps
        for environment in self._environments:
            close(environment)


def repeats(env: VectorEnv, seed: int, steps: int = 5) -> bool:
    """Whether the first steps of an episode are the same when it begins again from its seed."""
    low, high = env.action_space.low, env.action_space.high
    actions = np.tile(0.25 * low + 0.75 * high, (env.num_envs, 1))

    def episode() -> Iterator[np.ndarray]:
        yield env.reset([seed, *[None] * (env.num_envs - 1)])
        for _ in range(steps):
            if env.running.any():
                step = env.step(actions)
                yield np.column_stack([step.final_observations, step.rewards, step.terminals])

    return all(map(np.array_equal, list(episode()), list(episode())))


class EpisodeSeeds:
    """The seeds of endless episodes, a `NextSeed`; `episodes` are the numbers of the running episodes."""

    def __init__(self, seed: int, episodes: Sequence[int]):
        self._seed, self.episodes = seed, list(episodes)

    def running(self) -> list[int]:
        """Returns the seeds of the running episodes, for `VectorEnv.reset`."""
        return [start_seed(self._seed, index, episode) for index, episode in enumerate(self.episodes)]

    def __call__(self, index: int) -> int:
        self.episodes[index] += 1
        return start_seed(self._seed, index, self.episodes[index])


def start_seed(seed: int, environment: int, episode: int) -> int:
    """Returns the seed of an environment's episode: independent of `rollout.evaluation.episode_seed`'s."""
    return int(np.random.SeedSequence(seed, spawn_key=(environment, episode)).generate_state(1)[0])


def close(environment: Environment) -> None:
    """Closes an environment. Its work is done, so it does not matter if this fails."""
    with contextlib.suppress(Exception, SystemExit):
        environment.close()


@contextlib.contextmanager
def naming(index: int) -> Iterator[None]:
    """Adds the environment's index to what goes wrong in it; other `UserError`s pass as they are."""
    try:
        yield
    except (Exception, SystemExit) as error:  # it may be the user's code, and fail in any way
        if isinstance(error, UserError) and not isinstance(error, EnvironmentFailure):
            raise
        raise failure(index, describe(error)) from error


def describe(error: BaseException) -> str:
    """Returns what went wrong in an environment, in one line."""
    if isinstance(error, EnvironmentFailure):
        return str(error)
    line = described(error)
    if "unpack" in str(error) and not place_of(error):  # Gymnasium's wrappers unpack what it returned
        line += f": step must return ({STEP}), reset ({RESET})"
    return line


def failure(index: int, words: str) -> EnvironmentFailure:
    return EnvironmentFailure(f"environment {index} failed: {words}")


def _check_finite(rows: np.ndarray, **numbers: np.ndarray) -> None:
    """Raises EnvironmentFailure if a number [N, ...] is not finite in any of these rows bool[N]."""
    for name, values in numbers.items():
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32, copy=False))  # as learners see them
        if finite.all():
            continue
        broken = rows & ~finite.reshape(len(rows), -1).all(axis=1)
        if broken.any():
            raise failure(int(broken.argmax()), f"its {name} is not finite")
