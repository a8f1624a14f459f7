"""Online training of one member in rounds: it acts in its environments, fills its buffer, and learns.

A member is one seed with one setting of the swept hyperparameters. A round is a fixed number of environment
steps, followed by the updates that these make due.
"""

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import prior, replay
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.data.prior import PriorData
from xql_jax.data.replay import ReplayBuffer
from xql_jax.envs.vector import EpisodeSeeds, VectorEnv
from xql_jax.training.checkpoints import KEPT
from xql_jax.training.members import Member
from xql_jax.training.ramps import Ramp, ramped
from xql_jax.training.replay_files import ReplayFiles, Saves, rows_since
from xql_jax.training.trainable import Divergence
from xql_jax.training.updates import Sums, Updated, train
from xql_jax.types import Array, Batch, Learner, Metrics, OnlineLearner, Params, PRNGKey, State

EPISODE_METRICS = ("episode/return", "episode/length")  # means over the episodes that ended last
NUM_ERRORS = 1_024  # Bellman errors per member and measurement


@dataclasses.dataclass(frozen=True)
class OnlineSchedule:
    """How acting and learning alternate. A step of any of the N environments counts as one step."""

    num_environments: int = 1  # N, per member
    processes: bool = False  # run each environment in its own process
    buffer_size: int = 1_000_000  # transitions per member
    batch_size: int = 256
    warmup_steps: int = 1_000  # of random actions, before anything is learned
    updates_per_step: float = 1.0
    round_steps: int = 1  # transitions per round, which are inserted at once; a multiple of N
    keep_checkpoints: int = KEPT  # the latest ones; 0 keeps all. The buffer's files are kept as long
    restarts: bool = False  # a diverged member starts again with new networks; else it is frozen
    exploration_noise: float = 0.0  # standard deviation of Gaussian noise added to actions, in their units
    ramps: Sequence[Ramp] = ()  # hyperparameters that change with the step

    def updates_by(self, step: int) -> int:
        """Returns the number of updates that are due after `step` steps."""
        return max(0, int((step - self.warmup_steps) * self.updates_per_step + 1e-9))

    @property
    def policy_lag(self) -> int:
        """The most updates by which the acting policy is behind those that are due before its step."""
        return math.ceil((2 * self.round_steps - self.num_environments) * self.updates_per_step)


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The offline training that online training continues: the members' states, and the data."""

    states: Mapping[str, State]  # by the member's name
    diverged: Mapping[str, Divergence]  # of the members that have diverged, by name
    updates: int  # done so far in this run (0 if it began with a checkpoint); their numbering goes on
    prior: PriorData  # the data, which are learned from besides the buffer
    preprocessing: Preprocessing  # of the data; also applied to the environments' transitions


class Learned(NamedTuple):
    """A member after the learning of one round."""

    buffer: ReplayBuffer
    updated: Updated
    state_is_finite: Array  # bool[]


class MemberRounds:
    """One member with its environments, its replay buffer, its state, and the policy that it acts by."""

    def __init__(
        self,
        learner: Learner,
        member: Member,
        environments: VectorEnv,
        schedule: OnlineSchedule,
        files: ReplayFiles,
        pretrained: Pretrained | None = None,
    ):
        self.learner, self.environments, self.schedule, self._files = learner, environments, schedule, files
        seed = member.seed
        self._updates = pretrained.updates if pretrained else 0
        self.prior = pretrained.prior if pretrained else None
        self._preprocessing = pretrained.preprocessing if pretrained else Preprocessing()
        self.diverged = pretrained.diverged.get(member.name) if pretrained else None
        self.restarts: list[Divergence] = []
        self._init_key, self.key, act_key = jax.random.split(jax.random.key(seed), 3)
        self._cpu = jax.devices("cpu")[0]  # acting is on the CPU, so it never waits for an accelerator
        self._act_key = jax.device_put(act_key, self._cpu)
        self._seed = seed
        shapes = environments.observation_space.shape, environments.action_space.shape
        example = [jnp.zeros((1, *shape)) for shape in shapes]
        self._init = jax.jit(lambda key: learner.init(key, *example))
        self.state: State = (
            jax.tree.map(jnp.array, pretrained.states[member.name])
            if pretrained
            else jax.block_until_ready(self._init(self._init_key))
        )
        self._sizes = shapes[0][0], shapes[1][0]
        self.buffer = replay.empty(schedule.buffer_size, *self._sizes)
        self._buffer_shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), self.buffer
        )
        self._no_sums = Sums.none(learner, self.state, self.row_shapes)
        self.sums = self._no_sums  # over the updates since `begin_interval`
        self._saves = Saves(schedule.keep_checkpoints)
        self._learning: tuple[int, concurrent.futures.Future] | None = None  # the round being learned
        self._bad_actions_at: int | None = None  # the first step with actions that were not finite
        self._episode = dict.fromkeys(EPISODE_METRICS, math.nan)
        self._observations = self._begin([0] * schedule.num_environments)
        self._acting_learner = jax.device_put(learner, self._cpu)
        self._policies: dict[int, Params] = {}
        self._start_policies(0)

    @property
    def row_shapes(self) -> Batch:
        """Shapes and types of the transitions of one round."""
        number = self.schedule.round_steps
        return jax.tree.map(
            lambda field: jax.ShapeDtypeStruct((number, *field.shape[1:]), field.dtype), self.buffer.data
        )

    def compile(self, together: bool = False) -> None:
        """Compiles the programs for learning and acting; only acting if the members learn together."""
        self._metrics = dict.fromkeys(self._no_sums.totals, jnp.float32(jnp.nan))
        if not together:
            learn = functools.partial(_learn, batch_size=self.schedule.batch_size)
            arguments = self._arguments(self.learner, self.row_shapes, 0, 0)
            self._learn = jax.jit(learn, donate_argnames="buffer").lower(*arguments).compile()
        self._act(next(iter(self._policies)), self.schedule.warmup_steps)

    def act(self, step: int, seconds: dict[str, float]) -> Batch:
        """Acts for a round from `step` on; returns its transitions, NumPy f32[round_steps, ...]."""
        schedule, rows = self.schedule, []
        for first in range(step, step + schedule.round_steps, schedule.num_environments):
            started = time.perf_counter()
            actions = self._act(step // schedule.round_steps - 2, first)
            if not np.isfinite(actions).all():  # finite parameters can be too large
                actions = np.where(np.isfinite(actions), actions, np.float32(0.0))
                self._bad_actions_at = first if self._bad_actions_at is None else self._bad_actions_at
            acted = time.perf_counter()
            result = self.environments.step(actions)
            transitions, self._observations = result.transitions(self._observations), result.observations
            if (ended := result.ended).any():
                means = result.returns[ended].mean(), result.lengths[ended].mean()
                self._episode = dict(zip(EPISODE_METRICS, means, strict=True))
            rows.append(self._preprocessing.online(transitions))
            seconds["acting"] += acted - started
            seconds["environment"] += time.perf_counter() - acted
        return jax.tree.map(lambda *fields: np.concatenate(fields), *rows)

    def _begin(self, episodes: Sequence[int]) -> np.ndarray:
        """Begins the episodes of these numbers, one per environment; returns the observations."""
        self.seeds = EpisodeSeeds(self._seed, episodes)
        return self.environments.reset(self.seeds.running(), self.seeds)

    @property
    def metrics(self) -> Metrics:
        """Metrics of the last finite update and of the last finished episodes; NaN before the first."""
        return {**self._metrics, **{name: jnp.float32(value) for name, value in self._episode.items()}}

    def begin_interval(self) -> None:
        """Begins a new interval of `sums`; the learner must be idle."""
        self.sums = self._no_sums

    def learn(self, step: int, rows: Batch, thread: concurrent.futures.Executor) -> None:
        """Starts a round's learning in the thread: inserts its transitions and does the due updates.

        Args:
            step: the first step of the round.
            rows: the transitions of the round.
            thread: runs the learning.
        """
        self.awaits(step, thread.submit(self._learn_round, step, self.learner_at(step), rows))

    def awaits(self, step: int, learning: concurrent.futures.Future) -> None:
        """Records that the round starting at `step` is being learned; the learning ends by calling `take`."""
        self._learning = step // self.schedule.round_steps, learning

    def learner_at(self, step: int) -> Any:
        """Returns the learner with the hyperparameters of the round that starts at `step`."""
        return ramped(self.learner, self.schedule.ramps, step)

    def updates_from(self, step: int) -> tuple[int, int]:
        """Returns start and stop of the updates start, ..., stop - 1 due by the round starting at `step`."""
        stop = step + self.schedule.round_steps
        return self._updates + self.schedule.updates_by(step), self._updates + self.schedule.updates_by(stop)

    def await_learner(self, seconds: dict[str, float]) -> None:
        """Waits until the round being learned, if any, is done; adds the waiting time to `seconds`."""
        if self._learning is None:
            return
        started = time.perf_counter()
        (number, learning), self._learning = self._learning, None
        learning.result()
        if self._restart_if_asked():
            self._bad_actions_at = None  # they were the old networks'
        self._policies = {number - 1: self._policies[number - 1], number: self._policy()}
        seconds["waiting for the learner"] += time.perf_counter() - started

    def diverge(self, step: int, quantity: str) -> None:
        """Records the member's first divergence; results of later learning are dropped."""
        self.diverged = self.diverged or Divergence(step, quantity)

    def settle(self, step: int) -> None:
        """Handles actions that were not finite, before the round starting at `step` is learned.

        Such actions may come from this round or from an evaluation. The member is marked as diverged, or
        restarted if the schedule says so.
        """
        if self._bad_actions_at is not None:
            self.diverge(self._bad_actions_at, "actions")
            self._bad_actions_at = None
        if self._restart_if_asked():
            self._start_policies(step)

    def _restart_if_asked(self) -> bool:
        """Reinitialises a diverged member's networks if the schedule asks for it; returns whether it did.

        The learner must be idle.
        """
        if not (self.schedule.restarts and self.diverged):
            return False
        self.restarts.append(self.diverged)
        self.diverged = None
        self.state = self._init(jax.random.fold_in(self._init_key, len(self.restarts)))
        return True

    def bellman_errors(self, step: int) -> np.ndarray:
        learner: Any = self.learner  # an `OnlineLearner`
        return np.asarray(drawn_bellman_errors(learner, self.state, self.buffer, self.key, np.int32(step)))

    def resume(self, state: State, sums: Sums | None, step: int, episodes: Sequence[int]) -> None:
        self.state = state
        self.sums = sums or self._no_sums
        self.buffer = replay.empty(1, *self._sizes)  # frees the old buffer before the new one is loaded
        self.buffer = self._files.load(step, self._buffer_shapes)
        self._saves = Saves(self.schedule.keep_checkpoints, step)
        self._observations = self._begin(episodes)
        self._start_policies(step)

    def saving(self, step: int) -> Callable[[], None]:
        """Returns a function that writes the transitions since the last checkpoint.

        The function also removes the files that no checkpoint needs any more.
        """
        rows, oldest = rows_since(self.buffer, self._saves.last), self._saves.add(step)

        def write() -> None:
            self._files.append(step, rows)
            self._files.prune(oldest, self.schedule.buffer_size)

        return write

    def _learn_round(self, step: int, learner: Learner, rows: Batch) -> None:
        """Inserts the transitions and does the due updates; runs in the thread.

        A diverged member does no updates, but its buffer is still filled, because checkpoints need its files.
        """
        start, stop = self.updates_from(step)
        arguments = self._arguments(learner, rows, start, start if self.diverged else stop)
        self.take(step, jax.block_until_ready(self._learn(*arguments)))

    def _arguments(self, learner: Learner, rows: Any, start: int, stop: int) -> tuple[Any, ...]:
        """Returns the arguments of `_learn`."""
        numbers = np.int32(start), np.int32(stop)
        return learner, self.state, self.sums, self.buffer, self.prior, rows, self.key, *numbers

    def take(self, step: int, learned: Learned) -> None:
        """Takes over the results of the round that starts at `step`; runs in the thread."""
        self.buffer = learned.buffer
        start, stop = self.updates_from(step)
        if start == stop or self.diverged:
            return
        updated = learned.updated
        broken = [name for name, was_finite in updated.finite.items() if not was_finite]
        if broken or not learned.state_is_finite:
            self.diverge(step + self.schedule.round_steps, ", ".join(broken) or "state")
        else:
            self.state, self.sums, self._metrics = updated.state, updated.sums, updated.metrics

    def _start_policies(self, step: int) -> None:
        """Uses the current policy as the policy after each of the two rounds before `step`."""
        number = step // self.schedule.round_steps
        self._policies = dict.fromkeys((number - 2, number - 1), self._policy())

    def _policy(self) -> Params:
        """Returns the actor's parameters on the CPU, where acting takes place."""
        params = self.learner.actor(self.state)
        there = all(leaf.devices() == {self._cpu} for leaf in jax.tree.leaves(params))
        return params if there else jax.device_put(params, self._cpu)  # 0.2 ms

    def _act(self, number: int, step: int) -> np.ndarray:
        """Returns actions f32[N, A] at `step`: by the policy after round `number`, or random in warm-up."""
        if step < self.schedule.warmup_steps:
            shape = (self.schedule.num_environments, *self.environments.action_space.shape)
            return np.random.default_rng((self._seed, step)).uniform(-1.0, 1.0, shape).astype(np.float32)
        policy, learner = self._policies[number], self._acting_learner
        if self.schedule.ramps:  # acting may depend on what changes, such as TD3's noise
            learner = jax.device_put(self.learner_at(step), self._cpu)
        observations = self._preprocessing.observations(self._observations)
        key, std = self._act_key, self.schedule.exploration_noise
        if std:
            return np.asarray(
                _act_noisily(learner, policy, observations, key, np.int32(step), np.float32(std))
            )
        return np.asarray(_act(learner, policy, observations, key, np.int32(step)))


@jax.jit
def _act(learner: Learner, params: Params, observations: Array, key: PRNGKey, step: Array) -> Array:
    return learner.act(params, observations, jax.random.fold_in(key, step), False)


@jax.jit
def _act_noisily(
    learner: Learner, params: Params, observations: Array, key: PRNGKey, step: Array, std: Array
) -> Array:
    """Like `_act`, but adds Gaussian noise and clips the actions to [-1, 1]."""
    key_act, key_noise = jax.random.split(jax.random.fold_in(key, step))
    actions = learner.act(params, observations, key_act, False)
    return jnp.clip(actions + std * jax.random.normal(key_noise, actions.shape), -1.0, 1.0)


@jax.jit
def drawn_bellman_errors(
    learner: OnlineLearner, state: State, buffer: ReplayBuffer, key: PRNGKey, step: Array
) -> Array:
    """Bellman errors on transitions drawn from the buffer.

    The key is folded with -step, which no update uses, because updates are numbered from 0 on.
    """
    batch = replay.sample(buffer, jax.random.fold_in(key, -step), NUM_ERRORS)
    return learner.bellman_errors(state, batch)


def _learn(
    learner: Any,
    state: State,
    sums: Sums,
    buffer: ReplayBuffer,
    prior_data: PriorData | None,
    rows: Batch,
    key: PRNGKey,
    start: Array,
    stop: Array,
    batch_size: int,
) -> Learned:
    """Inserts the transitions, does updates start, ..., stop - 1, and checks that all numbers are finite.

    The state is not donated, because the old state is kept if the new one is not finite.
    """
    buffer = replay.insert(buffer, rows)

    def batch(data: ReplayBuffer, key: PRNGKey, step: Array) -> Batch:
        return prior.sample(prior_data, data, key, batch_size)

    updated = train(learner, state, sums, key, buffer, start, stop, batch)
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updated.state)]
    return Learned(buffer, updated, jnp.stack(leaves).all())
