"""Collects data: rolls out episodes by a policy, and keeps every transition."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from xql_jax.data.rows import Rows, cut_off, joined_rows
from xql_jax.envs import Suite
from xql_jax.errors import UserError
from xql_jax.rollout import rollout
from xql_jax.tasks import Task

AT_ONCE = 16  # environments; constant, because a policy may round differently for another batch shape


class Chance(NamedTuple):
    """The random numbers of a step of K episodes, from each one's own stream, whatever the policy uses."""

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


class _Episode:
    """An episode that is being collected, or has ended."""

    def __init__(self, number: int, seed: int, stream: int):
        seeds = np.random.SeedSequence((seed, number), spawn_key=(stream,)).spawn(2)
        self.start_seed = int(seeds[0].generate_state(1)[0])
        self.generator = np.random.default_rng(seeds[1])
        self.steps: list[tuple[Any, ...]] = []  # observation, action, reward, terminal, time-out, next one
        self.ended: Rows = {}

    def __len__(self) -> int:
        return len(self.ended["rewards"]) if self.ended else len(self.steps)

    def rows(self) -> Rows:
        if self.ended:
            return self.ended
        observations, actions, rewards, terminals, timeouts, following = zip(*self.steps, strict=True)
        return {
            "observations": np.stack(observations),
            "actions": np.stack(actions),
            "rewards": np.array(rewards, np.float32),
            "terminals": np.array(terminals, bool),
            "timeouts": np.array(timeouts, bool),
            "next_observations": np.stack(following),
        }

    def end(self) -> None:
        self.ended = self.rows()
        self.steps.clear()


def collect(
    task: Task,
    suite: Suite,
    behaviour: Behaviour,
    seed: int,
    *,
    transitions: int | None = None,
    episodes: int | None = None,
    stream: int = 0,
    on_steps: Callable[[int, int], object] = lambda transitions, episodes: None,
) -> Rows:
    """Rolls out whole episodes and returns their rows in D4RL's layout, in the order of their numbers.

    The start and the randomness of episode e depend on (seed, stream, e) alone.

    Args:
        transitions: how many to collect; the last episode is cut off there by a time-out.
        episodes: how many to collect, if `transitions` is None.
        stream: a number from 0; another stream has other episodes.
        on_steps: called after each step with the numbers of transitions made and of episodes ended.
    Raises:
        UserError: if an action is not finite.
        EnvironmentFailure: naming the environment, if one fails, or gives NaN or infinity.
    """
    made = whole = length = 0  # transitions; episodes before the first unfinished one, and their rows
    begun: list[_Episode] = []
    running: dict[int, _Episode] = {}  # by the environment's place
    acting: dict[int, _Episode] = {}  # those of the step under way

    def begin(place: int) -> int | None:
        running.pop(place, None)
        is_enough = made >= transitions if transitions else len(begun) >= (episodes or 0)
        if is_enough:
            return None
        running[place] = _Episode(len(begun), seed, stream)
        begun.append(running[place])
        return running[place].start_seed

    def act(observations: np.ndarray) -> np.ndarray:
        nonlocal made, acting
        made, acting = made + len(running), dict(running)
        chance = _draw(acting, env.num_envs, *env.action_space.shape)
        actions = np.asarray(behaviour.act(observations[0], chance))
        if not np.isfinite(actions[list(acting)]).all():
            raise UserError(f"policy {behaviour.name}: gave an action that is not finite")
        return (actions + behaviour.noise * chance.noise).astype(np.float32)[None]

    with contextlib.closing(suite.vector_env(task, min(AT_ONCE, suite.max_environments))) as env:
        start = env.reset([begin(place) for place in range(env.num_envs)], begin)
        for observations, step in rollout(env, act, start):
            for place, episode in acting.items():
                columns = (observations, *step[1:6])
                episode.steps.append(tuple(column[place] for column in columns))
                if step.ended[place]:
                    episode.end()
            on_steps(len(acting), int(step.ended.sum()))
            while whole < len(begun) and begun[whole].ended:
                length += len(begun[whole])
                whole += 1
            under_way = begun[whole : whole + 1]
            if transitions and length + sum(map(len, under_way)) >= transitions:
                parts = [episode.rows() for episode in begun[: whole + 1] if len(episode)]
                return cut_off(joined_rows(parts), transitions)
    return joined_rows([episode.rows() for episode in begun])


def _draw(running: Mapping[int, _Episode], places: int, action_dim: int) -> Chance:
    """Draws the random numbers of a step; zeros for places without an episode."""
    uniform, normal, noise = np.zeros((3, places, action_dim))
    keys = np.zeros((places, 2), np.uint32)
    for place, episode in running.items():
        generator = episode.generator
        uniform[place] = generator.random(action_dim)
        normal[place], noise[place] = generator.standard_normal((2, action_dim))
        keys[place] = generator.integers(2**32, size=2, dtype=np.uint32)
    return Chance(uniform, normal, noise, keys)
