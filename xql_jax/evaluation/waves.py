"""Waves: batches of episodes that begin together and are stepped in lock-step."""

import concurrent.futures
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from xql_jax.envs import Suite
from xql_jax.errors import naming_failures
from xql_jax.tasks import Task
from xql_jax.types import Environment

Slot = tuple[int, int]  # a place: the member, and which of its K episodes
EPISODE = "episode {1} of member {0}"  # a slot, in messages
UNTOLD = -1  # in `successes`: the environment has not said whether the episode is a success


@dataclasses.dataclass(frozen=True)
class WaveStep:
    """The result of one step of K episodes of each of M members (policies).

    Places that did not run get reward 0. The next step may overwrite the arrays.
    """

    observations: np.ndarray  # f32[M, K, O]; the last one of an episode that is over
    rewards: np.ndarray  # f64[M, K]
    ended: np.ndarray  # bool[M, K], of those that ran
    successes: np.ndarray  # i8[M, K], 0, 1 or UNTOLD


class Wave(ABC):
    """Runs K episodes of each of M members at a time, in lock-step.

    Args:
        task: the task to step environments of.
        suite: makes the environments, unless they are one program.
        num_members: M.
        num_slots: K.
    """

    @abstractmethod
    def __init__(self, task: Task, suite: Suite, num_members: int, num_slots: int): ...

    @property
    @abstractmethod
    def observation_dim(self) -> int: ...

    @property
    @abstractmethod
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest actions, f32[A] each."""

    @abstractmethod
    def begin(self, seeds: Sequence[int]) -> np.ndarray:
        """Starts an episode of each member from each seed, at most K; returns the observations f32[M, K, O].

        Places without an episode are zero.
        """

    @abstractmethod
    def step(self, actions: np.ndarray, running: np.ndarray) -> WaveStep:
        """Advances the running episodes by one step; the others stay as they are.

        Args:
            actions: f32[M, K, A], within `action_bounds`.
            running: bool[M, K].
        """

    @abstractmethod
    def close(self) -> None: ...


class HostWave(Wave):
    """Runs the episodes in a suite's environments, each member's on its own.

    There is one environment for each member and episode, M * K in all. Each is made when first needed, and
    kept until `close`.
    """

    def __init__(self, task: Task, suite: Suite, num_members: int, num_slots: int):
        self._task, self._suite = task, suite
        self._shape = num_members, num_slots
        self._environments: dict[Slot, Environment] = {}
        num_threads = suite.num_threads
        self._threads = concurrent.futures.ThreadPoolExecutor(num_threads) if num_threads > 1 else None

    @property
    def observation_dim(self) -> int:
        return self._environment((0, 0)).observation_space.shape[0]

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        space = self._environment((0, 0)).action_space
        return space.low, space.high

    def begin(self, seeds: Sequence[int]) -> np.ndarray:
        slots = [(member, k) for member in range(self._shape[0]) for k in range(len(seeds))]
        starts = {}
        for slot in slots:
            with naming_failures(EPISODE, *slot):
                starts[slot] = self._environment(slot).reset(seed=seeds[slot[1]])[0]
        self._observations = np.zeros((*self._shape, *starts[0, 0].shape), np.float32)
        for slot, start in starts.items():
            self._observations[slot] = start
        self._successes = np.full(self._shape, UNTOLD, np.int8)
        self._check_finite(np.zeros(self._shape))
        return self._observations

    def step(self, actions: np.ndarray, running: np.ndarray) -> WaveStep:
        rewards, ended = np.zeros(self._shape), np.zeros(self._shape, bool)

        def step(slots: list[Slot]) -> None:
            for slot in slots:
                with naming_failures(EPISODE, *slot):
                    observation, reward, terminated, truncated, info = self._environments[slot].step(
                        actions[slot]
                    )
                    self._observations[slot], rewards[slot] = observation, reward
                if "success" in info:
                    self._successes[slot] = info["success"]
                ended[slot] = terminated or truncated

        slots = list(zip(*(axis.tolist() for axis in running.nonzero()), strict=True))
        if self._threads:
            n = self._suite.num_threads
            done, _ = concurrent.futures.wait([self._threads.submit(step, slots[i::n]) for i in range(n)])
            for part in done:  # all are: none still steps an environment when a failure closes them
                part.result()
        else:
            step(slots)
        self._check_finite(rewards)
        return WaveStep(self._observations, rewards, ended, self._successes)

    def _check_finite(self, rewards: np.ndarray) -> None:
        """Raises EnvironmentFailure if an environment gave NaN or infinity.

        Otherwise a policy's action would be NaN, and its member be taken for diverged.
        """
        fine = np.isfinite(self._observations).all(axis=-1) & np.isfinite(rewards)
        if not fine.all():
            member, episode = np.argwhere(~fine)[0].tolist()
            with naming_failures(EPISODE, member, episode):
                raise ValueError("the environment gave NaN or infinity")

    def close(self) -> None:
        for environment in self._environments.values():
            environment.close()
        self._environments.clear()
        if self._threads:
            self._threads.shutdown()

    def _environment(self, slot: Slot) -> Environment:
        if slot not in self._environments:
            self._environments[slot] = self._suite.make(self._task)
        return self._environments[slot]
