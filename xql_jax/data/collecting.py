"""Collects data: rolls out episodes by one behaviour, or several in turn, and keeps every transition."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from xql_jax.data.rows import POLICY, Rows, cut_off, joined_rows
from xql_jax.envs import Suite
from xql_jax.errors import UserError
from xql_jax.rollout import rollout
from xql_jax.tasks import Task

AT_ONCE = 16  # environments; constant, because a policy may round differently for another batch shape


class Chance(NamedTuple):
    """The random numbers of a step of K episodes, from each one's own stream, whichever behaviour acts."""

    uniform: np.ndarray  # f64[K, A], in [0, 1)
    normal: np.ndarray  # f64[K, A]
    noise: np.ndarray  # f64[K, A], standard normal; `Behaviour.noise` scales it
    keys: np.ndarray  # u32[K, 2], data of JAX keys


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """A policy that data are collected with."""

    name: str  # as the user gave it
    what: str  # a description
    act: Callable[[np.ndarray, Chance], np.ndarray]  # pure: observations f32[K, O] to actions [K, A]
    noise: float = 0.0  # standard deviation of the noise that is added to its actions


@dataclasses.dataclass(frozen=True)
class Amount:
    """How much to collect: a number of transitions or a number of episodes."""

    transitions: int | None = None
    episodes: int | None = None

    def reached(self, transitions: int, episodes: int) -> bool:
        """Whether no further episode has to be started; those under way are still to be finished.

        Args:
            transitions: made so far.
            episodes: started so far.
        """
        return transitions >= self.transitions if self.transitions else episodes >= (self.episodes or 0)


class _Running:
    """An episode that is being collected."""

    def __init__(self, number: int, behaviour: int, seed: int, stream: int):
        seeds = np.random.SeedSequence((seed, number), spawn_key=(stream,)).spawn(2)
        self.number, self.behaviour = number, behaviour
        self.start_seed = int(seeds[0].generate_state(1)[0])
        self.generator = np.random.default_rng(seeds[1])
        self.steps: list[tuple[Any, ...]] = []  # observation, action, reward, terminal, time-out, next one

    def rows(self) -> Rows:
        observations, actions, rewards, terminals, timeouts, following = zip(*self.steps, strict=True)
        return {
            "observations": np.stack(observations),
            "actions": np.stack(actions),
            "rewards": np.array(rewards, np.float32),
            "terminals": np.array(terminals, bool),
            "timeouts": np.array(timeouts, bool),
            "next_observations": np.stack(following),
            POLICY: np.full(len(rewards), self.behaviour, np.int32),
        }


class _Episodes:
    """The episodes that have ended. An episode counts once all episodes before it have ended, too."""

    def __init__(self) -> None:
        self._ended: dict[int, Rows] = {}  # by number
        self._whole = self._length = 0  # episodes before the first unfinished one, and their rows

    def end(self, episode: _Running) -> None:
        self._ended[episode.number] = episode.rows()
        while self._whole in self._ended:
            self._length += len(self._ended[self._whole]["rewards"])
            self._whole += 1

    def length(self, running: Iterable[_Running]) -> int:
        """Returns the number of rows up to and including those of the first unfinished episode."""
        return self._length + sum(len(each.steps) for each in running if each.number == self._whole)

    def rows(self, running: Iterable[_Running]) -> Rows:
        """Returns the rows that `length` counts."""
        parts = [self._ended[number] for number in range(self._whole)]
        return joined_rows(
            parts + [each.rows() for each in running if each.number == self._whole and each.steps]
        )


def collect(
    task: Task,
    suite: Suite,
    behaviours: Sequence[Behaviour],
    shares: Sequence[float],
    amount: Amount,
    seed: int,
    *,
    stream: int = 0,
    on_steps: Callable[[int, int], object] = lambda transitions, episodes: None,
) -> Rows:
    """Rolls out whole episodes and returns their rows in D4RL's layout, in the order of their numbers.

    The start and the randomness of episode e depend on (seed, stream, e) alone, its behaviour on the shares
    and e. If a number of transitions is asked for, the last episode is cut off there by a time-out.

    Args:
        shares: each behaviour's share of the episodes; the behaviours take turns, see `turns`.
        stream: a number from 0; another stream has other episodes.
        on_steps: called after each step with the numbers of transitions made and of episodes ended.
    Returns:
        `Rows` with `POLICY`, the index of the behaviour.
    Raises:
        UserError: if an action is not finite.
        EnvironmentFailure: naming the environment, if one fails, or gives NaN or infinity.
    """
    order = turns(shares)
    started = made = 0
    running: dict[int, _Running] = {}  # by the environment's place
    acting: dict[int, _Running] = {}  # those of the step under way
    episodes = _Episodes()

    def begin(place: int) -> int | None:
        nonlocal started
        running.pop(place, None)
        if amount.reached(made, started):
            return None
        running[place] = _Running(started, next(order), seed, stream)
        started += 1
        return running[place].start_seed

    def act(observations: np.ndarray) -> np.ndarray:
        nonlocal made, acting
        made, acting = made + len(running), dict(running)
        return _actions(behaviours, observations[0], acting, *env.action_space.shape)[None]

    with contextlib.closing(suite.vector_env(task, min(AT_ONCE, suite.max_environments))) as env:
        start = env.reset([begin(place) for place in range(env.num_envs)], begin)
        for observations, step in rollout(env, act, start):
            for place, episode in acting.items():
                columns = (observations, *step[1:6])
                episode.steps.append(tuple(column[place] for column in columns))
                if step.ended[place]:
                    episodes.end(episode)
            on_steps(len(acting), int(step.ended.sum()))
            if amount.transitions and episodes.length(running.values()) >= amount.transitions:
                return cut_off(episodes.rows(running.values()), amount.transitions)
    return episodes.rows([])


def turns(shares: Sequence[float]) -> Iterator[int]:
    """Yields the behaviour of each episode: the one furthest below its share, the first of equals.

    With two behaviours, each has had its share of the first E episodes to within one episode, for every E.
    """
    wanted, had = np.asarray(shares, np.float64) / np.sum(shares), np.zeros(len(shares))
    for number in itertools.count(1):
        chosen = int(np.argmax(np.round(wanted * number - had, 9)))  # else 0.1 + 0.2 > 0.3
        had[chosen] += 1
        yield chosen


def _actions(
    behaviours: Sequence[Behaviour],
    observations: np.ndarray,
    running: Mapping[int, _Running],
    action_dim: int,
) -> np.ndarray:
    """Returns actions f32[K, A]: each episode's by its own behaviour, with noise; 0 where there is none."""
    chance = _draw(running, len(observations), action_dim)
    actions = np.zeros(chance.normal.shape, np.float32)
    for index, behaviour in enumerate(behaviours):
        own = [place for place, episode in running.items() if episode.behaviour == index]
        if own:
            chosen = np.asarray(behaviour.act(observations, chance))[own]
            if not np.isfinite(chosen).all():
                raise UserError(f"policy {behaviour.name}: gave an action that is not finite")
            actions[own] = chosen + behaviour.noise * chance.noise[own]
    return actions


def _draw(running: Mapping[int, _Running], places: int, action_dim: int) -> Chance:
    """Draws the random numbers of a step; zeros for places without an episode."""
    uniform, normal, noise = np.zeros((3, places, action_dim))
    keys = np.zeros((places, 2), np.uint32)
    for place, episode in running.items():
        generator = episode.generator
        uniform[place] = generator.random(action_dim)
        normal[place], noise[place] = generator.standard_normal((2, action_dim))
        keys[place] = generator.integers(2**32, size=2, dtype=np.uint32)
    return Chance(uniform, normal, noise, keys)
