"""One member of online training, in rounds: it acts in its environments, inserts, and learns."""

import concurrent.futures
import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import replay
from xql_jax.data.replay import ReplayBuffer
from xql_jax.envs.vector import Counters, VectorEnvironment
from xql_jax.training.checkpoints import KEPT
from xql_jax.training.population import Divergence, train
from xql_jax.training.replay_files import ReplayFiles, rows_since
from xql_jax.types import Array, Batch, Metrics, OnlineLearner, Params, PRNGKey, State

NUM_ERRORS = 1_024  # Bellman errors of each member and time


@dataclasses.dataclass(frozen=True)
class OnlineSchedule:
    """How acting and learning follow one another. Steps are of one environment, and counted over all N."""

    num_environments: int = 1  # N of each member
    processes: bool = False  # one each
    buffer_size: int = 1_000_000  # transitions of each member
    batch_size: int = 256
    warmup_steps: int = 1_000  # of random actions, before anything is learned
    updates_per_step: float = 1.0
    round_steps: int = 1  # a multiple of N: transitions that are inserted and learned from at once
    keep_checkpoints: int = KEPT  # the last so many, 0: all; files of the buffer stay as long as they
    restarts: bool = False  # a member whose numbers stop being finite begins with new networks; else it stays

    def updates_by(self, step: int) -> int:
        """Updates that are due after so many steps."""
        return max(0, int((step - self.warmup_steps) * self.updates_per_step + 1e-9))

    @property
    def policy_lag(self) -> int:
        """The most updates that a policy in use lacks of those that are due before its step."""
        return math.ceil((2 * self.round_steps - self.num_environments) * self.updates_per_step)


class MemberRounds:
    """One member: its environments, its buffer, its state, and the policy that it acts by."""

    def __init__(
        self,
        learner: OnlineLearner,
        seed: int,
        environments: VectorEnvironment,
        schedule: OnlineSchedule,
        files: ReplayFiles,
    ):
        self.learner, self.environments, self._schedule, self._files = learner, environments, schedule, files
        self.diverged: Divergence | None = None
        self.restarts: list[Divergence] = []
        self._init_key, self._key, act_key = jax.random.split(jax.random.key(seed), 3)
        self._cpu = jax.devices("cpu")[0]  # where it acts, whatever an accelerator is busy with
        self._act_key = jax.device_put(act_key, self._cpu)
        self._seed = seed
        shapes = environments.observation_space.shape, environments.action_space.shape
        example = [jnp.zeros((1, *shape)) for shape in shapes]
        self._init = jax.jit(lambda key: learner.init(key, *example))
        self.state: State = jax.block_until_ready(self._init(self._init_key))
        self._sizes = shapes[0][0], shapes[1][0]
        self._buffer = replay.empty(schedule.buffer_size, *self._sizes)
        self._buffer_shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), self._buffer
        )
        self._saves = [0]  # transitions that were in files at the last checkpoints
        self._learning: tuple[int, concurrent.futures.Future] | None = None  # a round
        self._bad_actions_at: int | None = None  # a step whose actions were not finite
        self._episode = {"episode/return": math.nan, "episode/length": math.nan}
        self._observations = environments.reset([seed] * schedule.num_environments)
        self._acting_learner = jax.device_put(learner, self._cpu)
        self._policies: dict[int, Params] = {}
        self._start_policies(0)

    def compile(self) -> None:
        """Makes the two programs, of learning and of acting."""
        schedule = self._schedule
        rows = jax.tree.map(
            lambda field: jax.ShapeDtypeStruct((schedule.round_steps, *field.shape[1:]), field.dtype),
            self._buffer.data,
        )
        program = jax.jit(functools.partial(_learn, batch_size=schedule.batch_size), donate_argnames="buffer")
        metrics = jax.eval_shape(self.learner.update, self.state, rows, self._key)[1]
        self._metrics = dict.fromkeys(metrics, jnp.float32(jnp.nan))
        zero = np.int32(0)
        self._learn = program.lower(
            self.learner, self.state, self._buffer, rows, self._key, zero, zero
        ).compile()
        self._act(-1, self._schedule.warmup_steps)

    def act(self, step: int, seconds: dict[str, float]) -> Batch:
        """Acts for a round from `step` on; returns its transitions, NumPy f32[round_steps, ...]."""
        schedule, rows = self._schedule, []
        for first in range(step, step + schedule.round_steps, schedule.num_environments):
            started = time.perf_counter()
            actions = self._act(step // schedule.round_steps - 2, first)
            if not np.isfinite(actions).all():  # of parameters that are finite, and too large
                actions = np.where(np.isfinite(actions), actions, np.float32(0.0))
                self._bad_actions_at = first if self._bad_actions_at is None else self._bad_actions_at
            acted = time.perf_counter()
            result = self.environments.step(actions)
            self._observations = result.observations
            if result.ended.any():
                self._episode = {
                    "episode/return": result.returns[result.ended].mean(),
                    "episode/length": result.lengths[result.ended].mean(),
                }
            rows.append(result.transitions)
            seconds["acting"] += acted - started
            seconds["environment"] += time.perf_counter() - acted
        return jax.tree.map(lambda *fields: np.concatenate(fields), *rows)

    @property
    def metrics(self) -> Metrics:
        """Those of the last update that stayed finite and of the episodes that ended last; else NaN."""
        return {**self._metrics, **{name: jnp.float32(value) for name, value in self._episode.items()}}

    def learn(self, step: int, rows: Batch, thread: concurrent.futures.Executor) -> None:
        """Begins to insert the transitions of the round from `step` on, and to learn what they make due."""
        stop = step + self._schedule.round_steps
        updates = self._schedule.updates_by(step), self._schedule.updates_by(stop)
        future = thread.submit(self._learn_round, rows, *updates, stop)
        self._learning = step // self._schedule.round_steps, future

    def await_learner(self, seconds: dict[str, float]) -> None:
        """Returns when the round that `learn` began is learned."""
        if self._learning is None:
            return
        started = time.perf_counter()
        (number, learning), self._learning = self._learning, None
        learning.result()
        self._restart_if_asked()
        self._policies = {number - 1: self._policies[number - 1], number: self._policy()}
        seconds["waiting for the learner"] += time.perf_counter() - started

    def diverge(self, step: int, quantity: str) -> None:
        """Notes it; what is learned from then on is dropped."""
        self.diverged = self.diverged or Divergence(step, quantity)

    def settle(self, step: int) -> None:
        """Before the round from `step` on is learned: actions of it, or of an evaluation, were not finite."""
        if self._bad_actions_at is not None:
            self.diverge(self._bad_actions_at, "actions")
            self._bad_actions_at = None
        if self._restart_if_asked():
            self._start_policies(step)

    def _restart_if_asked(self) -> bool:
        """Begins anew with the networks of a member that has diverged; the learner must be idle."""
        if not (self._schedule.restarts and self.diverged):
            return False
        self.restarts.append(self.diverged)
        self.diverged = None
        self.state = self._init(jax.random.fold_in(self._init_key, len(self.restarts)))
        return True

    def bellman_errors(self, step: int) -> np.ndarray:
        return np.asarray(_bellman_errors(self.learner, self.state, self._buffer, self._key, np.int32(step)))

    def resume(self, state: State, step: int, counters: Counters) -> None:
        self.state = state
        self._buffer = replay.empty(1, *self._sizes)  # the memory of that in use is wanted
        self._buffer = self._files.load(step, self._buffer_shapes)
        self._saves = [step]
        self._observations = self.environments.restore(counters)
        self._start_policies(step)

    def saving(self, step: int) -> Callable[[], None]:
        """Returns a writer of the transitions since the last checkpoint, which removes what none needs."""
        rows = rows_since(self._buffer, self._saves[-1])
        kept = self._schedule.keep_checkpoints
        self._saves = [*self._saves, step][-kept - 1 if kept else 0 :]
        # One more than are kept, as the newest is written before the oldest is removed. After a resumption
        # there are checkpoints that are not among these.
        oldest = self._saves[0] if 0 < kept < len(self._saves) else 0

        def write() -> None:
            self._files.append(step, rows)
            self._files.prune(oldest, self._schedule.buffer_size)

        return write

    def _learn_round(self, rows: Batch, start: int, stop: int, step: int) -> None:
        """In the thread: inserts, and does updates start, ..., stop - 1, those due by `step`.

        A member that has diverged learns no more; its buffer goes on, as checkpoints count on its files.
        """
        stop = start if self.diverged else stop
        state, self._buffer, metrics, finite, state_finite = jax.block_until_ready(
            self._learn(
                self.learner, self.state, self._buffer, rows, self._key, np.int32(start), np.int32(stop)
            )
        )
        if start == stop:
            return
        broken = [name for name, was_finite in finite.items() if not was_finite]
        if broken or not state_finite:
            self.diverge(step, ", ".join(broken) or "state")
        else:
            self.state, self._metrics = state, metrics

    def _start_policies(self, step: int) -> None:
        """Before the round from `step` on: the policies after the last two rounds are that of now."""
        number = step // self._schedule.round_steps
        self._policies = dict.fromkeys((number - 2, number - 1), self._policy())

    def _policy(self) -> Params:
        """All that acting needs, where it acts."""
        params = self.learner.actor(self.state)
        there = all(leaf.devices() == {self._cpu} for leaf in jax.tree.leaves(params))
        return params if there else jax.device_put(params, self._cpu)  # which takes 0.2 ms for nothing

    def _act(self, number: int, step: int) -> np.ndarray:
        """Actions f32[N, A] at `step`, by the policy after round `number`, or random in the warm-up."""
        if step < self._schedule.warmup_steps:
            shape = (self._schedule.num_environments, *self.environments.action_space.shape)
            return np.random.default_rng((self._seed, step)).uniform(-1.0, 1.0, shape).astype(np.float32)
        policy = self._policies[number]
        return np.asarray(
            _act(self._acting_learner, policy, self._observations, self._act_key, np.int32(step))
        )


@jax.jit
def _act(learner: OnlineLearner, params: Params, observations: Array, key: PRNGKey, step: Array) -> Array:
    return learner.act(params, observations, jax.random.fold_in(key, step), False)


@jax.jit
def _bellman_errors(
    learner: OnlineLearner, state: State, buffer: ReplayBuffer, key: PRNGKey, step: Array
) -> Array:
    """The errors in transitions drawn by a key that no update has: theirs have the numbers from 0 on."""
    batch = replay.sample(buffer, jax.random.fold_in(key, -step), NUM_ERRORS)
    return learner.bellman_errors(state, batch)


def _learn(
    learner: Any, state: State, buffer: ReplayBuffer, rows: Batch, key: PRNGKey, start, stop, batch_size
) -> tuple[State, ReplayBuffer, Metrics, Metrics, Array]:
    """Inserts, then does updates start, ..., stop - 1, and looks for what is not finite.

    The state is not donated: where it ends in numbers that are not finite, the one before is kept.

    Returns:
        State, buffer, the last update's metrics; by metric whether it was finite in all updates, and whether
        the state is, bool[] each.
    """
    buffer = replay.insert(buffer, rows)

    def batch(data: ReplayBuffer, key: PRNGKey, step: Array) -> Batch:
        return replay.sample(data, key, batch_size)

    state, metrics, finite = train(learner, state, key, buffer, start, stop, batch)
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]
    return state, buffer, metrics, finite, jnp.stack(leaves).all()
