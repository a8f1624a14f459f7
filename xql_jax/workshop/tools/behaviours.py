"""Policies that collect data, and the rows of their episodes."""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from xql_jax.data.policy_files import read_policy
from xql_jax.data.rows import Rows, cut_off
from xql_jax.envs import EnvironmentMaker, action_bounds
from xql_jax.errors import UserError
from xql_jax.files.paths import located
from xql_jax.rollout import rollout
from xql_jax.rollout.acting import ActionQueue
from xql_jax.runs.load import load_run
from xql_jax.suites.tasks import Task
from xql_jax.training.members import learners_of
from xql_jax.training.signals import StopSignals
from xql_jax.types import Array, Learner, Params

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
    path, sizes = located(name), maker.sizes(task)
    how = "deterministic" if deterministic else "sampled"
    if name == RANDOM:
        bounds = action_bounds(task)
        return Behaviour(
            name,
            "uniformly random actions",
            lambda _, numbers: bounds.to_environment(2 * numbers.uniform - 1),
        )
    if path.suffix.lower() == ".npz":
        policy = read_policy(path, *sizes)
        what = f"Gaussian MLP, {how}, file of sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        return Behaviour(
            name, what, lambda seen, numbers: policy(seen, None if deterministic else numbers.normal)
        )
    if not path.is_dir():
        raise UserError(
            f"policy {name}: unknown; give {RANDOM}, FILE.npz, a run's folder or one of its checkpoints"
        )
    run = load_run(name, member=member, env_name=task.name, allow_other_bounds=allow_other_bounds)
    one = run.one_member()
    if hasattr(run.learner, "act_remembering"):
        raise UserError(f"policy {name}: {run.method} acts by what it remembers, and cannot collect")
    run.check_fits(task, *sizes)
    with contextlib.closing(maker.vector_env(task, 1)) as env:
        told = run.compared_with(task, env)
    [learner] = learners_of(run.learner, [one])
    on_device = jax.device_put((learner, learner.actor(run.states[one.name])), jax.devices()[0])
    transform = run.preprocessing

    def act(observations: np.ndarray, numbers: RandomNumbers) -> np.ndarray:
        seen = transform.observations(observations)
        actions = np.asarray(_act(*on_device, seen, numbers.keys, deterministic))
        return transform.acted(actions)

    what = f"{run.method}, {one}, {run.in_words(run.step)}, {how}, run {run.run_id}"
    return Behaviour(name, "; ".join([what, *run.caveats([one]), *told]), act, transform.action_chunk)


@functools.partial(jax.jit, static_argnames="deterministic")
def _act(learner: Learner, actor: Params, observations: Array, keys: Array, deterministic: bool) -> Array:
    """Returns actions f32[K, A]; each has its own key."""

    def act(observation: Array, key: Array) -> Array:
        return learner.act(actor, observation[None], jax.random.wrap_key_data(key), deterministic)[0]

    return jax.vmap(act)(observations, keys)


@dataclasses.dataclass
class _Episode:
    """Where an episode is in the history of all environments."""

    place: int  # of its environment
    first: int  # step
    generator: np.random.Generator
    stop: int = -1  # the step after its last one


def episodes_of(
    behaviour: Behaviour,
    task: Task,
    maker: EnvironmentMaker,
    seed: int,
    number: int,
    unit: str = "episode",
    *,
    noise: float = 0.0,
    count: Callable[[int], object] = lambda number: None,
    stop: StopSignals | None = None,
) -> Rows:
    """Rolls out whole episodes and returns their rows in D4RL's layout, in the order of their numbers.

    The start and the randomness of episode e depend on (seed, e) alone.

    Args:
        unit: what is counted: `episode`, or `transition`: then the last episode is cut off by a time-out.
        noise: standard deviation of Gaussian noise on the actions, in halves of their range.
        count: called after each step with how many units are new.
        stop: after a signal, only the episodes that have ended come; KeyboardInterrupt if none has.
    Raises:
        UserError: if an action is not finite, or an environment fails.
    """
    by_transitions = unit == "transition"
    steps = 0  # of all environments together
    made = 0  # transitions
    begun: list[_Episode] = []
    running: dict[int, _Episode] = {}  # by the environment's place
    history: list[tuple[np.ndarray, ...]] = []  # the fields of each step, [K, ...]

    queue = ActionQueue(behaviour.action_chunk)

    def begin(place: int) -> int | None:
        queue.begin(np.arange(env.num_envs) == place)
        if ended := running.pop(place, None):
            ended.stop = steps
        if (made if by_transitions else len(begun)) >= number:
            return None
        start, own = np.random.SeedSequence((seed, len(begun)), spawn_key=(0,)).spawn(2)
        running[place] = _Episode(place, steps, np.random.default_rng(own))
        begun.append(running[place])
        return int(start.generate_state(1)[0])

    def act(observations: np.ndarray) -> np.ndarray:
        nonlocal steps, made
        steps += 1
        made += len(running)
        numbers = _draw(list(running.values()), env.num_envs, *env.action_space.shape)
        actions = np.asarray(queue.next(lambda: behaviour.act(observations[0], numbers)))
        if not np.isfinite(actions[list(running)]).all():
            raise UserError(f"policy {behaviour.name}: gave an action that is not finite")
        added = noise * numbers.noise * (env.action_space.high - env.action_space.low) / 2
        return (actions + added).astype(np.float32)[None]

    with contextlib.closing(maker.vector_env(task, min(AT_ONCE, maker.max_environments))) as env:
        start = env.reset([begin(place) for place in range(env.num_envs)], begin)
        before = 0
        for observations, step in rollout(env, act, start):
            history.append((observations, *step[1:6]))
            count(made - before if by_transitions else int(step.ended.sum()))
            before = made
            if stop and stop.received:
                if not (begun := [one for one in begun if one.stop > 0]):
                    raise KeyboardInterrupt
                break
    rows: Rows = {}
    for name, column in zip(ROW_NAMES, zip(*history, strict=True), strict=True):
        stacked = np.stack(column)
        rows[name] = np.concatenate([stacked[one.first : one.stop, one.place] for one in begun])
    rows["rewards"] = rows["rewards"].astype(np.float32)
    return cut_off(rows, number) if by_transitions else rows


def _draw(running: list[_Episode], places: int, action_dim: int) -> RandomNumbers:
    """Draws the random numbers of a step; zeros for places without an episode."""
    uniform, normal, noise = np.zeros((3, places, action_dim))
    keys = np.zeros((places, 2), np.uint32)
    for one in running:
        uniform[one.place] = one.generator.random(action_dim)
        normal[one.place], noise[one.place] = one.generator.standard_normal((2, action_dim))
        keys[one.place] = one.generator.integers(2**32, size=2, dtype=np.uint32)
    return RandomNumbers(uniform, normal, noise, keys)
