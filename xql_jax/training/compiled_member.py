"""Compiled online training of one member: acting, insertion and learning as one pure function.

A member is one seed with one setting of the swept hyperparameters (see `members.py`).
"""

import dataclasses
import functools
from typing import TypeVar

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.data import replay
from xql_jax.data.replay import ReplayBuffer
from xql_jax.envs import compiled
from xql_jax.envs.compiled import Ended, Episodes, JaxEnvironment
from xql_jax.pytrees import Distinct
from xql_jax.training.rounds import OnlineSchedule
from xql_jax.training.updates import Sums, train
from xql_jax.types import Array, Batch, Learner, Metrics, PRNGKey, State

Tree = TypeVar("Tree")
ACTIONS, STATE = "actions", "state"  # what is checked to be finite, besides each metric


@flax.struct.dataclass
class Keys(Distinct):
    """A member's random keys; each is folded with the number of a step, an update or an episode."""

    init: PRNGKey
    updates: PRNGKey
    acting: PRNGKey
    episodes: PRNGKey

    @classmethod
    def of(cls, seed: int) -> "Keys":
        """Makes the keys from a seed; the first three equal those of `OnlinePopulation`."""
        return cls(*jax.random.split(jax.random.key(seed), 4))


@flax.struct.dataclass
class Tally(Distinct):
    """The numbers that the logs report about a member."""

    metrics: Metrics  # of the last update that stayed finite; NaN before the first
    sums: Sums  # over the updates since the last row of the log
    episode_return: Array  # f32[], mean over the environments that ended an episode last; NaN before
    episode_length: Array  # f32[], likewise, steps
    failures: Array  # i32[], episodes that ended because their simulation failed
    diverged_at: Array  # i32[], the step at which it diverged; -1: it has not diverged
    broken: dict[str, Array]  # bool[] by quantity: whether it was not finite at `diverged_at`


@flax.struct.dataclass
class Carry(Distinct):
    """The parts of a member that change during training: the carry of the compiled loop."""

    state: State  # of the learner; after a divergence the last finite state
    buffer: ReplayBuffer
    episodes: Episodes
    tally: Tally


def begin(
    learner: Learner, state: State, keys: Keys, environment: JaxEnvironment, schedule: OnlineSchedule
) -> tuple[Episodes, Tally]:
    """Returns a member's first episodes, and its tally."""
    rows = replay.empty(1, environment.observation_size, environment.action_size).data
    sums = Sums.none(learner, state, rows)
    metrics, nan = sums.totals, jnp.float32(jnp.nan)
    tally = Tally(
        metrics=dict.fromkeys(metrics, nan),
        sums=sums,
        episode_return=nan,
        episode_length=nan,
        failures=jnp.int32(0),
        diverged_at=jnp.int32(-1),
        broken=dict.fromkeys((*metrics, STATE, ACTIONS), jnp.bool_(False)),
    )
    return compiled.begin(environment, keys.episodes, schedule.num_environments), tally


def advance(
    learner: Learner,
    carry: Carry,
    keys: Keys,
    first: Array,
    count: Array,
    updates: Array,
    *,
    environment: JaxEnvironment,
    schedule: OnlineSchedule,
    axis_name: str | None,
) -> Carry:
    """Acts `count` times in all N environments, from step `first` on, and does the due updates each time.

    A member that diverges keeps its last finite state, acts by it, and continues to fill its buffer.

    Args:
        first, count: i32[]; steps are counted over all environments, so each time adds N steps.
        updates: i32[count + 1 or more], the updates that are due in total before each time, and after the
            last.
        axis_name: the axis of the members, if they share the program under `jax.vmap`; None for a single
            member.
    """
    number = schedule.num_environments

    def anywhere(condition: Array) -> Array:
        return condition if axis_name is None else jax.lax.psum(condition.astype(jnp.int32), axis_name) > 0

    def draw_batch(buffer: ReplayBuffer, key: PRNGKey, step: Array) -> Batch:
        return replay.sample(buffer, key, schedule.batch_size)

    def act_and_learn(time: Array, carry: Carry) -> Carry:
        step = first + time * number
        actions = _act(learner, carry, keys.acting, step, environment.action_size, schedule)
        usable = jnp.where(jnp.isfinite(actions), actions, 0.0)
        episodes, transitions, ended = compiled.step(
            environment, carry.episodes, usable, keys.episodes, anywhere
        )
        buffer = replay.insert(carry.buffer, transitions)
        due = updates[time], updates[time + 1]
        before = carry.state, carry.tally.sums
        done = train(learner, *before, keys.updates, buffer, *due, draw_batch)
        leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(done.state)]
        broken = {name: ~was for name, was in done.finite.items()}
        broken |= {STATE: ~jnp.stack(leaves).all(), ACTIONS: ~jnp.isfinite(actions).all()}
        tally = _noted(carry.tally, broken, step, step + number)
        stays = tally.diverged_at >= 0
        learned = ~stays & (due[1] > due[0])
        last = _select(learned, done.metrics, tally.metrics)
        tally = dataclasses.replace(tally, metrics=last, sums=done.sums)
        tally = _with_episodes(tally, ended)
        return Carry(_select(stays, carry.state, done.state), buffer, episodes, tally)

    return jax.lax.fori_loop(0, count, act_and_learn, carry)


def _act(
    learner: Learner, carry: Carry, key: PRNGKey, step: Array, action_size: int, schedule: OnlineSchedule
) -> Array:
    """Returns actions f32[N, A] at `step`: sampled from the policy, or uniform during the warm-up."""
    key, observations = jax.random.fold_in(key, step), carry.episodes.observations

    def random(key: PRNGKey) -> Array:
        return jax.random.uniform(key, (schedule.num_environments, action_size), minval=-1.0, maxval=1.0)

    def by_policy(key: PRNGKey) -> Array:
        return learner.act(learner.actor(carry.state), observations, key, False)

    return jax.lax.cond(step < schedule.warmup_steps, random, by_policy, key)


def _noted(tally: Tally, broken: dict[str, Array], step: Array, stop: Array) -> Tally:
    """Records the member's first divergence.

    Actions diverge at the `step` that they are for, everything else at the end `stop` of that step.
    """
    at = jnp.where(broken[ACTIONS], step, stop)
    is_new = (tally.diverged_at < 0) & jnp.stack(list(broken.values())).any()
    return dataclasses.replace(
        tally,
        diverged_at=jnp.where(is_new, at, tally.diverged_at),
        broken=_select(is_new, broken, tally.broken),
    )


def _with_episodes(tally: Tally, ended: Ended) -> Tally:
    count = ended.now.sum()

    def mean(values: Array, before: Array) -> Array:
        total = jnp.where(ended.now, values, 0).sum().astype(jnp.float32)
        return jnp.where(count > 0, total / jnp.maximum(count, 1), before)

    return dataclasses.replace(
        tally,
        episode_return=mean(ended.returns, tally.episode_return),
        episode_length=mean(ended.lengths, tally.episode_length),
        failures=tally.failures + ended.failed.sum(),
    )


def _select(condition: Array, first: Tree, second: Tree) -> Tree:
    """`first` where the condition bool[] holds, else `second`."""
    return jax.tree.map(functools.partial(jnp.where, condition), first, second)
