"""The state of a member, and the compiled loop of updates that every kind of training runs on it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import flax.struct
import jax
import jax.numpy as jnp

from xql_jax.training.schedule import Ramp, ramped
from xql_jax.types import Array, Json, Learner, Metrics, Minibatch, PRNGKey, State

STATE = "state"  # what is checked to be finite, besides each metric
Experience = tuple[State, State]  # a member's buffer and its running episodes


class Sums(NamedTuple):
    """The sums of metrics over successive updates, such as those since the last row of the log.

    They are added up inside the program, so they do not depend on how the updates are split into calls.
    """

    updates: Array  # i32[], their number
    totals: Metrics

    @classmethod
    def none(cls, metrics: Metrics) -> Self:
        """Returns the sums over no update, for metrics of these shapes."""
        return cls(jnp.int32(0), {name: jnp.zeros(of.shape, of.dtype) for name, of in metrics.items()})

    def plus(self, metrics: Metrics) -> Self:
        totals = {name: total + metrics[name] for name, total in self.totals.items()}
        return self._replace(updates=self.updates + 1, totals=totals)

    def means(self) -> Metrics:
        """Returns the means by their names in the logs; NaN if there was no update."""
        return {f"{name}_mean": total / self.updates for name, total in self.totals.items()}

    @classmethod
    def restored(cls, saved: Json) -> Self:
        """Returns one member's sums from the numbers in JSON."""
        totals = {name: jnp.float32(float(total)) for name, total in saved["totals"].items()}
        return cls(jnp.int32(saved["updates"]), totals)


Carry = tuple[State, Sums, Metrics, Metrics]  # of the loop in the program; the last: was each metric finite?


class MemberState(flax.struct.PyTreeNode):
    """Everything of one member; a population stacks its members along a new leading axis of every leaf."""

    learner: Learner  # its traced hyperparameters are the leaves
    state: State  # of the learner; the last finite one if the member has diverged
    key: PRNGKey  # update t uses it folded with t
    sums: Sums  # since the last row of the log
    metrics: Metrics  # of the last update; NaN before the first
    buffer: State = ()  # its `ReplayBuffer`, if it acts
    running: State = ()  # its `Running` episodes, if its environments are in the compiled program

    @property
    def apart(self) -> tuple[Self, Experience]:
        """The member without its experience, and that: its buffer and its running episodes.

        The compiled program gets these apart. Experience is donated, so that buffers are written in place.
        States are kept, because `find_divergence` goes back to them.
        """
        return self.replace(buffer=(), running=()), (self.buffer, self.running)

    def joined(self, experience: Experience) -> Self:
        """Undoes `apart`."""
        return self.replace(buffer=experience[0], running=experience[1])


def update_keys(key: PRNGKey, step: Array) -> tuple[PRNGKey, PRNGKey]:
    """Returns the two keys of an update: one draws the minibatch, the other is passed to the learner."""
    key_batch, key_update = jax.random.split(jax.random.fold_in(key, step))
    return key_batch, key_update


def run_updates(
    member: MemberState,
    start: Array,
    stop: Array,
    draw: Callable[[PRNGKey, Array], Minibatch],
    ramps: Sequence[Ramp] = (),
) -> tuple[MemberState, Metrics]:
    """Runs updates start, ..., stop - 1 of one member, each on the minibatch `draw(key, step)`.

    In update t the learner has the ramps' values at t.

    Returns the member; and bool[] by name: whether the metric was finite in all of these updates, and whether
    the last state is.
    """

    def once(step: Array, carry: Carry) -> Carry:
        state, sums, _, finite = carry
        key_batch, key_update = update_keys(member.key, step)
        learner = ramped(member.learner, ramps, step)
        # The method's own: which class that is, `learners/registry.py` says; XQL's is in learners/xql.py.
        state, metrics = learner.update(state, draw(key_batch, step), key_update)
        finite = {name: finite[name] & jnp.isfinite(metrics[name]) for name in metrics}
        return state, sums.plus(metrics), metrics, finite

    finite = {name: jnp.ones((), bool) for name in member.metrics}
    begun = member.state, member.sums, member.metrics, finite
    state, sums, metrics, finite = jax.lax.fori_loop(start, stop, once, begun)
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]
    return member.replace(state=state, sums=sums, metrics=metrics), {**finite, STATE: jnp.stack(leaves).all()}
