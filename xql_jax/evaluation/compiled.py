"""Episodes in compiled environments: one call of a program steps the episodes of all members (policies)."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.envs import Suite
from xql_jax.envs.compiled import EnvState, chosen, compiled_environment, safe_step
from xql_jax.evaluation.rollout import Evaluator
from xql_jax.evaluation.waves import UNTOLD, HostWave, Wave, WaveStep
from xql_jax.tasks import COMPILED, Task
from xql_jax.types import Array


def make_evaluator(
    task: Task,
    num_members: int,
    num_episodes: int,
    seed: int,
    max_environments: int | None = None,
    suite: Suite | None = None,
) -> Evaluator:
    """Returns the evaluator for the task's kind of environment; arguments and errors as `Evaluator`."""
    kind = CompiledWave if task.suite == COMPILED else HostWave
    return Evaluator(task, num_members, num_episodes, seed, max_environments, suite, kind)


class CompiledWave(Wave):
    """Runs a wave, a batch of episodes in lock-step, in one compiled program.

    The episode of a seed starts from `jax.random.key(seed)`, as in `CompiledEpisodes`. The policies are
    called from the host once per step, so that an evaluation can be interrupted, and so that policies are the
    same as in other environments.
    """

    def __init__(self, task: Task, suite: Suite, num_members: int, num_slots: int):
        self._environment = compiled_environment(task)
        self._reset, self._advance = _programs(task)
        self._shape = num_members, num_slots
        self._untold = np.full(self._shape, UNTOLD, np.int8)

    @property
    def observation_dim(self) -> int:
        return self._environment.observation_size

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        high = np.ones(self._environment.action_size, np.float32)
        return -high, high

    def begin(self, seeds: Sequence[int]) -> np.ndarray:
        padded = np.zeros(self._shape[1], np.uint32)  # places without an episode step an unused one
        padded[: len(seeds)] = seeds
        self._steps = 0
        self._states, start = self._reset(np.tile(padded, self._shape[0]))
        observations = np.array(start, np.float32).reshape(*self._shape, -1)
        observations[:, len(seeds) :] = 0.0
        self._observations = observations
        return observations

    def step(self, actions: np.ndarray, running: np.ndarray) -> WaveStep:
        given = (self._observations, actions.astype(np.float32), ~running)
        flat = (array.reshape(-1, *array.shape[2:]) for array in given)
        self._states, *outcome = self._advance(self._states, *flat)
        observations, rewards, terminals = (
            np.array(array).reshape(*self._shape, *array.shape[1:]) for array in outcome
        )
        self._observations = observations
        self._steps += 1
        ended = terminals | (self._steps >= self._environment.episode_limit)
        return WaveStep(observations, rewards.astype(np.float64), ended, self._untold)

    def close(self) -> None:
        """Does nothing: only arrays are held."""


@functools.cache
def _programs(task: Task) -> tuple[Callable, Callable]:
    """Returns start and step of flat batches of episodes; ended ones keep their state and get reward 0."""
    environment = compiled_environment(task)

    def reset(seeds: Array) -> tuple[EnvState, Array]:
        return jax.vmap(lambda seed: environment.reset(jax.random.key(seed)))(seeds)

    def advance(
        states: EnvState, observations: Array, actions: Array, over: Array
    ) -> tuple[EnvState, Array, Array, Array]:
        one = functools.partial(safe_step, environment)
        following, given, _ = jax.vmap(one)(states, observations, actions)
        states, seen = chosen(over, (states, observations), (following, given.observation))
        return states, seen, jnp.where(over, 0.0, given.reward), given.terminal

    return jax.jit(reset), jax.jit(advance, donate_argnums=0)
