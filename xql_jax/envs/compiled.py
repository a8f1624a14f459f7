"""Environments in JAX: their steps are part of the compiled program that learns from them."""

import functools
import logging
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.envs.vector import UNKNOWN_SUCCESS, VectorEnv
from xql_jax.errors import UserError, others_code
from xql_jax.numerics.pytrees import Distinct, select_leaves
from xql_jax.suites.tasks import Task, own_attribute
from xql_jax.types import Array, Batch, PRNGKey

LOG = logging.getLogger(__name__)
EnvState = Any  # an environment's own pytree of arrays, always of the same shapes


class Step(NamedTuple):
    """The result of one step of one environment."""

    observation: Array  # f32[O]
    reward: Array  # f32[]
    terminal: Array  # bool[]; false at a time limit


class JaxEnvironment(Protocol):
    """One environment as pure functions; see docs/online.md for users' own."""

    observation_size: int  # O
    action_size: int  # A
    episode_limit: int  # steps; an attribute of the class
    steps_per_second: float  # of the environment's own time

    def reset(self, key: PRNGKey) -> tuple[EnvState, Array]:
        """Returns the start of an episode, and its observation f32[O]."""

    def step(self, state: EnvState, action: Array) -> tuple[EnvState, Step]:
        """Acts once, with f32[A] in [-1, 1]. It never starts a new episode: the caller does that."""


@functools.cache
def compiled_environment(task: Task) -> JaxEnvironment:
    """Returns this process's environment of a task; UserError for a class that is no `JaxEnvironment`."""
    if task.suite.jax_environment:
        return pkgutil.resolve_name(task.suite.jax_environment)(task)
    array: Any = jax.ShapeDtypeStruct
    with others_code(f"{task.name}: cannot be made or compiled"):
        make: Any = own_attribute(task.name)
        environment: JaxEnvironment = make()
        seen = array((environment.observation_size,), jnp.float32)
        before, start = jax.eval_shape(environment.reset, jax.random.key(0))
        action = array((environment.action_size,), jnp.float32)
        after, stepped = jax.eval_shape(environment.step, before, action)
        float(environment.steps_per_second)
        stepped = Step(stepped.observation, stepped.reward, stepped.terminal)
        wanted = Step(seen, array((), jnp.float32), array((), jnp.bool_))
        chex.assert_trees_all_equal_shapes_and_dtypes(
            {"observation of reset": start, "step": stepped, "state of step": after},
            {"observation of reset": seen, "step": wanted, "state of step": before},
        )
    return environment


def safe_step(
    environment: JaxEnvironment, state: EnvState, observation: Array, action: Array
) -> tuple[EnvState, Step, Array]:
    """Like the environment's `step`, but the episode ends where the observation or reward is not finite.

    The last bool[] is true for such a step. It is terminal, has reward 0, and keeps `observation` f32[O].
    """
    state, stepped = environment.step(state, action)
    failed = ~(jnp.isfinite(stepped.observation).all() & jnp.isfinite(stepped.reward))
    step = Step(
        observation=jnp.where(failed, observation, stepped.observation),
        reward=jnp.where(failed, 0.0, stepped.reward),
        terminal=stepped.terminal | failed,
    )
    return state, step, failed


@flax.struct.dataclass
class Episodes(Distinct):
    """The running episodes of N environments."""

    states: EnvState  # leaves [N, ...]
    observations: Array  # f32[N, O], to act on next
    numbers: Array  # i32[N], the number of each environment's episode, from 0
    lengths: Array  # i32[N], steps so far
    returns: Array  # f32[N], undiscounted, so far


class Ended(NamedTuple):
    """The episodes that a step ended."""

    now: Array  # bool[N], ended in this step, by a terminal state or the time limit
    returns: Array  # f32[N], undiscounted; of running episodes, so far
    lengths: Array  # i32[N], steps; of running episodes, so far
    failed: Array  # bool[N], see `safe_step`


def begin(environment: JaxEnvironment, key: PRNGKey, numbers: Array) -> Episodes:
    """Starts each environment's episode of these numbers i32[N]; a start's key is (key, index, number)."""
    fold = jax.random.fold_in
    own = jax.vmap(lambda index, number: fold(fold(key, index), number))(jnp.arange(len(numbers)), numbers)
    states, observations = jax.vmap(environment.reset)(own)
    none = jnp.zeros_like(numbers)
    return Episodes(states, observations, numbers, none, none.astype(jnp.float32))


def step(
    environment: JaxEnvironment,
    episodes: Episodes,
    actions: Array,
    key: PRNGKey,
    anywhere: Callable[[Array], Array] = lambda condition: condition,
) -> tuple[Episodes, Batch, Ended]:
    """Steps all environments by actions f32[N, A], and starts a new episode where one ends.

    Args:
        key: the key of `begin`.
        anywhere: from bool[], whether an episode of these environments has ended, to the same for all that
            share the program's control flow. New starts cost as much as a step: they are made only then.
    Returns:
        The episodes that run now; the transitions [N, ...], whose next observations are never a start, and
        whose masks are 1 at a time limit; and what ended.
    """
    step_all = jax.vmap(functools.partial(safe_step, environment))
    states, stepped, failed = step_all(episodes.states, episodes.observations, actions)
    masks = 1.0 - stepped.terminal
    transitions = Batch(episodes.observations, actions, stepped.reward, masks, stepped.observation)
    returns, lengths = episodes.returns + stepped.reward, episodes.lengths + 1
    now = stepped.terminal | (lengths >= environment.episode_limit)
    going_on = Episodes(states, stepped.observation, episodes.numbers, lengths, returns)

    def restarted(going_on: Episodes) -> Episodes:
        return select_leaves(now, begin(environment, key, going_on.numbers + 1), going_on)

    episodes = jax.lax.cond(anywhere(now.any()), restarted, lambda going_on: going_on, going_on)
    return episodes, transitions, Ended(now, returns, lengths, failed)


class CompiledEnv(VectorEnv):
    """N copies of a task's `JaxEnvironment`, stepped by one program.

    The episode of a seed starts from `jax.random.key(seed)`. Policies are called from the host once per step.
    """

    def __init__(self, task: Task, num_envs: int):
        from gymnasium import spaces

        super().__init__(num_envs)
        self._name = task.name
        self._environment = environment = compiled_environment(task)
        self._start_all, self._step_all = _programs(task)
        self.steps_per_second = environment.steps_per_second
        self.observation_space = spaces.Box(-np.inf, np.inf, (environment.observation_size,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (environment.action_size,), np.float32)
        self._states: EnvState = None

    def _start(self, seeds: Sequence[int | None]) -> np.ndarray:
        begins = np.array([seed is not None for seed in seeds])
        states, starts = self._start_all(np.array([seed or 0 for seed in seeds], np.uint32))
        if self._states is not None and not begins.all():
            states = select_leaves(jnp.asarray(begins), states, self._states)
        self._states = states
        return np.asarray(starts)

    def _act(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, ...]:
        actions = actions.astype(np.float32)
        self._states, *outcome = self._step_all(self._states, self._observations, actions, ~running)
        following, rewards, terminals, failed = map(np.array, outcome)
        if count := int((failed & running).sum()):
            LOG.warning(
                f"{self._name}: the simulation broke in {count} evaluated episode(s), which end there: their "
                "scores are of the steps before"
            )
        truncations = running & (self._lengths + 1 >= self._environment.episode_limit)
        successes = np.full(self.num_envs, UNKNOWN_SUCCESS, np.int8)
        return following, rewards.astype(np.float64), terminals & running, truncations, successes

    def render(self) -> np.ndarray:
        draw = getattr(self._environment, "render", None)
        if draw is None:
            raise UserError(f"{self._name}: no pictures: the environment has no method `render`")
        return np.asarray(draw(jax.tree.map(lambda leaf: leaf[0], self._states)))

    def close(self) -> None:
        """Does nothing: only arrays are held."""


@functools.cache
def _programs(task: Task) -> tuple[Callable, Callable]:
    """Returns start and step of N episodes; ended episodes keep their state and get reward 0."""
    environment = compiled_environment(task)
    start = jax.vmap(lambda seed: environment.reset(jax.random.key(seed)))
    step_all = jax.vmap(functools.partial(safe_step, environment))

    def step(
        states: EnvState, observations: Array, actions: Array, over: Array
    ) -> tuple[EnvState, Array, Array, Array, Array]:
        following, stepped, failed = step_all(states, observations, actions)
        states, seen = select_leaves(over, (states, observations), (following, stepped.observation))
        return states, seen, jnp.where(over, 0.0, stepped.reward), stepped.terminal, failed

    return jax.jit(start), jax.jit(step, donate_argnums=0)
