"""Policies that collect data, and the rows of their episodes."""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from xql_jax.data.rows import Rows, cut_off
from xql_jax.envs import EnvironmentMaker, action_bounds
from xql_jax.envs.vector import VectorEnv, VectorStep
from xql_jax.errors import UserError
from xql_jax.files.paths import located
from xql_jax.rollout import rollout
from xql_jax.rollout.acting import ActionQueue
from xql_jax.runs.load import Run, load_run
from xql_jax.suites.tasks import Task
from xql_jax.training.members import learners_of
from xql_jax.training.signals import StopSignals
from xql_jax.types import Array, Learner, Params
from xql_jax.workshop.tools.policy_files import read_policy

AT_ONCE = 16  # environments; constant, because a policy may round differently for another batch shape
RANDOM = "random"
ROW_NAMES = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")


class RandomNumbers(NamedTuple):
    """The random numbers of a step of K episodes, from each episode's own stream; a policy uses some."""

    uniform: np.ndarray  # f64[K, A], in [0, 1)
    normal: np.ndarray  # f64[K, A]
    noise: np.ndarray  # f64[K, A], standard normal
    keys: np.ndarray  # u32[K, 2], data of JAX keys


class Behaviour(NamedTuple):
    """A policy that data are collected with."""

    name: str  # as the user gave it
    what: str  # a description
    # Pure: observations f32[K, O] to actions [K, A], or to chunks of actions [K, h * A].
    act: Callable[[np.ndarray, RandomNumbers], np.ndarray]
    action_chunk: int = 1  # h
    noise: float = 0.0  # standard deviation of Gaussian noise on the actions, in halves of their range


def open_behaviour(
    name: str,
    task: Task,
    maker: EnvironmentMaker,
    *,
    member: int | None,
    deterministic: bool = False,
    allow_other_bounds: bool = False,
) -> Behaviour:
    """Opens a policy by its name; UserError if there is none, or it does not fit the task.

    Args:
        name: `random`, FILE.npz (a Gaussian MLP), a run's folder or one of its checkpoints.
        member: index of the run's member; needed if it has several.
        deterministic: act by the mean or mode instead of a sample; does not affect random actions.
        allow_other_bounds: see `load_run`.
    """
    path = located(name)
    if name == RANDOM:
        bounds = action_bounds(task)
        return Behaviour(
            name,
            "uniformly random actions",
            lambda _, numbers: bounds.to_environment(2 * numbers.uniform - 1),
        )
    if path.suffix.lower() == ".npz":
        policy, how = read_policy(path, *maker.sizes(task)), _manner(deterministic)
        what = f"Gaussian MLP, {how}, file of sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        return Behaviour(
            name, what, lambda seen, numbers: policy(seen, None if deterministic else numbers.normal)
        )
    if not path.is_dir():
        raise UserError(
            f"policy {name}: unknown; give {RANDOM}, FILE.npz, a run's folder or one of its checkpoints"
        )
    run = load_run(name, member=member, env_name=task.name, allow_other_bounds=allow_other_bounds)
    return _behaviour_of_run(name, run, task, maker, deterministic)


def _manner(deterministic: bool) -> str:
    return "deterministic" if deterministic else "sampled"


def _behaviour_of_run(
    name: str, run: Run, task: Task, maker: EnvironmentMaker, deterministic: bool
) -> Behaviour:
    """Returns the behaviour of a run's only member; UserError if the policy does not fit the task."""
    member = run.one_member()
    if hasattr(run.learner, "act_remembering"):
        raise UserError(f"policy {name}: {run.method} acts by what it remembers, and cannot collect")
    run.check_fits(task, *maker.sizes(task))
    with contextlib.closing(maker.vector_env(task, 1)) as env:
        told = run.compared_with(task, env)
    [learner] = learners_of(run.learner, [member])
    on_device = jax.device_put((learner, learner.actor(run.states[member.name])), jax.devices()[0])
    transform = run.preprocessing

    def act(observations: np.ndarray, numbers: RandomNumbers) -> np.ndarray:
        seen = transform.observations(observations)
        actions = np.asarray(_act(*on_device, seen, numbers.keys, deterministic))
        return transform.acted(actions)

    what = f"{run.method}, {member}, {run.in_words(run.step)}, {_manner(deterministic)}, run {run.run_id}"
    return Behaviour(name, "; ".join([what, *run.caveats([member]), *told]), act, transform.action_chunk)


@functools.partial(jax.jit, static_argnames="deterministic")
def _act(learner: Learner, actor: Params, observations: Array, keys: Array, deterministic: bool) -> Array:
    """Returns actions f32[K, A]; each has its own key."""

    def act(observation: Array, key: Array) -> Array:
        return learner.act(actor, observation[None], jax.random.wrap_key_data(key), deterministic)[0]

    return jax.vmap(act)(observations, keys)


class Amount(NamedTuple):
    """How much is collected."""

    number: int
    unit: str = "episode"  # or "transition": then the last episode is cut off by a time-out


def collecting_env(task: Task, maker: EnvironmentMaker) -> VectorEnv:
    """Returns the environments that `episodes_of` acts in."""
    return maker.vector_env(task, min(AT_ONCE, maker.max_environments))


def episodes_of(
    behaviour: Behaviour,
    env: VectorEnv,
    seed: int,
    amount: Amount,
    *,
    count: Callable[[int], object] = lambda number: None,
    stop: StopSignals | None = None,
) -> Rows:
    """Rolls out whole episodes and returns their rows in D4RL's layout, in the order of their numbers.

    The start and the randomness of episode e depend on (seed, e) alone.

    Args:
        count: called after each step with how many units of the amount are new.
        stop: after a signal, only the episodes that have ended come; KeyboardInterrupt if none has.
    Raises:
        UserError: if an action is not finite, or an environment fails.
    """
    collection = _Collection(behaviour, env, seed, amount)
    start = env.reset([collection.begin(place) for place in range(env.num_envs)], collection.begin)
    for observations, step in rollout(env, collection.act, start):
        count(collection.add(observations, step))
        if stop and stop.received:
            break
    return collection.rows()


@dataclasses.dataclass
class _Episode:
    """Where an episode is in the history of all environments."""

    place: int  # of its environment
    first: int  # step
    generator: np.random.Generator
    stop: int = -1  # the step after its last


class _Collection:
    """The episodes of a behaviour in several environments, and all steps of these environments."""

    def __init__(self, behaviour: Behaviour, env: VectorEnv, seed: int, amount: Amount):
        self._behaviour, self._env, self._seed, self._amount = behaviour, env, seed, amount
        self._counts_transitions = amount.unit == "transition"
        self._steps = 0  # of all environments together
        self._transitions = 0
        self._begun: list[_Episode] = []
        self._running: dict[int, _Episode] = {}  # by the environment's place
        self._history: list[tuple[np.ndarray, ...]] = []  # the fields of each step, [K, ...]
        self._queue = ActionQueue(behaviour.action_chunk)

    def begin(self, place: int) -> int | None:
        """Ends the episode of an environment. Returns the next episode's seed, None if there are enough."""
        self._queue.begin(np.arange(self._env.num_envs) == place)
        if ended := self._running.pop(place, None):
            ended.stop = self._steps
        if (self._transitions if self._counts_transitions else len(self._begun)) >= self._amount.number:
            return None
        start, own = np.random.SeedSequence((self._seed, len(self._begun)), spawn_key=(0,)).spawn(2)
        self._running[place] = _Episode(place, self._steps, np.random.default_rng(own))
        self._begun.append(self._running[place])
        return int(start.generate_state(1)[0])

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Returns the actions f32[1, K, A] of a step, with the behaviour's noise."""
        space, running = self._env.action_space, self._running
        self._steps += 1
        self._acting = len(running)
        self._transitions += self._acting
        numbers = _draw(list(running.values()), self._env.num_envs, *space.shape)
        actions = np.asarray(self._queue.next(lambda: self._behaviour.act(observations[0], numbers)))
        if not np.isfinite(actions[list(running)]).all():
            raise UserError(f"policy {self._behaviour.name}: gave an action that is not finite")
        added = self._behaviour.noise * numbers.noise * (space.high - space.low) / 2
        return (actions + added).astype(np.float32)[None]

    def add(self, observations: np.ndarray, step: VectorStep) -> int:
        """Keeps a step from these observations f32[K, O]; returns how many units of the amount are new."""
        self._history.append((observations, *step[1:6]))
        return self._acting if self._counts_transitions else int(step.ended.sum())

    def rows(self) -> Rows:
        """Returns the rows of the episodes that have ended; KeyboardInterrupt if none has."""
        ended = [episode for episode in self._begun if episode.stop > 0]
        if not ended:
            raise KeyboardInterrupt
        rows: Rows = {}
        for name, column in zip(ROW_NAMES, zip(*self._history, strict=True), strict=True):
            stacked = np.stack(column)
            rows[name] = np.concatenate(
                [stacked[episode.first : episode.stop, episode.place] for episode in ended]
            )
        rows["rewards"] = rows["rewards"].astype(np.float32)
        return cut_off(rows, self._amount.number) if self._counts_transitions else rows


def _draw(running: list[_Episode], places: int, action_dim: int) -> RandomNumbers:
    """Draws the random numbers of a step; zeros for places without an episode."""
    uniform, normal, noise = np.zeros((3, places, action_dim))
    keys = np.zeros((places, 2), np.uint32)
    for episode in running:
        uniform[episode.place] = episode.generator.random(action_dim)
        normal[episode.place], noise[episode.place] = episode.generator.standard_normal((2, action_dim))
        keys[episode.place] = episode.generator.integers(2**32, size=2, dtype=np.uint32)
    return RandomNumbers(uniform, normal, noise, keys)
