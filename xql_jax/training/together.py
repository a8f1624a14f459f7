"""Online training in which the members' updates run as one program.

This is faster on devices where launching kernels takes most of the time, such as GPUs. A member is one seed
with one setting of the swept hyperparameters.
"""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data import prior, replay
from xql_jax.data.prior import PriorData
from xql_jax.data.replay import ReplayBuffer
from xql_jax.training.members import stacked
from xql_jax.training.minibatches import update_keys
from xql_jax.training.rounds import Learned, MemberRounds
from xql_jax.training.updates import Sums, train
from xql_jax.types import Array, Batch, Learner, Metrics, PRNGKey, State


class TogetherRounds:
    """The learning of all members' rounds, with their updates under one `vmap`.

    States and buffers stay in the members' `MemberRounds`. Each update draws one minibatch per member from
    the member's own buffer, which is not copied into a stack. The updates of a diverged member are computed
    but dropped.
    """

    def __init__(self, runs: Sequence[MemberRounds]):
        self._runs = runs

    def compile(self) -> None:
        first = self._runs[0]
        program = jax.jit(
            functools.partial(_learn_together, batch_size=first.schedule.batch_size),
            donate_argnames="buffers",
        )
        zero = np.int32(0)
        arguments = self._arguments(0, [run.row_shapes for run in self._runs])
        self._program = program.lower(*arguments, zero, zero).compile()

    def learn(self, step: int, rows: Sequence[Batch], thread: concurrent.futures.Executor) -> None:
        """Like `MemberRounds.learn`, for all members at once."""
        learning = thread.submit(self._learn_round, step, self._arguments(step, rows))
        for run in self._runs:
            run.awaits(step, learning)

    def _arguments(self, step: int, rows: Sequence[Batch]) -> tuple[Any, ...]:
        runs = self._runs
        learners = tuple(run.learner_at(step) for run in runs)
        states, buffers = tuple(run.state for run in runs), tuple(run.buffer for run in runs)
        sums, keys = stacked([run.sums for run in runs]), jnp.stack([run.key for run in runs])
        return learners, states, sums, buffers, runs[0].prior, tuple(rows), keys

    def _learn_round(self, step: int, arguments: tuple[Any, ...]) -> None:
        """Runs the program and gives each member its result; runs in the thread."""
        start, stop = self._runs[0].updates_from(step)
        learned = jax.block_until_ready(self._program(*arguments, np.int32(start), np.int32(stop)))
        for run, own in zip(self._runs, learned, strict=True):
            run.take(step, own)


@dataclasses.dataclass(frozen=True)
class _Together:
    """M stacked learners used as one; states, minibatches and keys have a leading axis over them."""

    learners: Any

    def update(self, states: State, batches: Batch, keys: PRNGKey) -> tuple[State, Metrics]:
        def update(learner: Learner, *own: Any) -> tuple[State, Metrics]:
            return learner.update(*own)

        return jax.vmap(update)(self.learners, states, batches, keys)


def _learn_together(
    learners: tuple[Learner, ...],
    states: tuple[State, ...],
    sums: Sums,
    buffers: tuple[ReplayBuffer, ...],
    prior_data: PriorData | None,
    rows: tuple[Batch, ...],
    keys: PRNGKey,
    start: Array,
    stop: Array,
    batch_size: int,
) -> tuple[Learned, ...]:
    """Does for every member what `rounds._learn` does for one."""
    buffers = tuple(replay.insert(buffer, own) for buffer, own in zip(buffers, rows, strict=True))

    def batch(data: tuple[ReplayBuffer, ...], keys: PRNGKey, step: Array) -> Batch:
        drawn = [prior.sample(prior_data, own, keys[i], batch_size) for i, own in enumerate(data)]
        return stacked(drawn)

    joint: Any = _Together(stacked(learners))
    joint_keys = jax.vmap(update_keys, (0, None))
    updated = train(joint, stacked(states), sums, keys, buffers, start, stop, batch, joint_keys)

    def own(index: int) -> Learned:
        one = jax.tree.map(lambda leaf: leaf[index], updated)
        leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(one.state)]
        return Learned(buffers[index], one, jnp.stack(leaves).all())

    return tuple(own(index) for index in range(len(buffers)))
