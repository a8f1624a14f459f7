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

    def means(self) -> Metrics:
        """Returns the means by their names in the logs; NaN if there was no update."""
        return {f"{name}_mean": total / self.updates for name, total in self.totals.items()}

    @classmethod
    def restored(cls, saved: Json) -> Self:
        """Returns one member's sums from the numbers in JSON."""
        totals = {name: jnp.float32(float(total)) for name, total in saved["totals"].items()}
        return cls(jnp.int32(saved["updates"]), totals)


# What the loop carries: the state, and of all metrics f32[m] their sums, the last ones and, bool[m],
# whether each was finite. As vectors they are computed by one kernel.
Carry = tuple[State, Array, Array, Array]


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
    ahead: int = 1,
) -> tuple[MemberState, Metrics]:
    """Runs updates start, ..., stop - 1 of one member, each on the minibatch `draw(key, step)`.

    In update t the learner has the ramps' values at t. The minibatches of `ahead` updates are drawn at once.

    Returns the member; and bool[] by name: whether the metric was finite in all of these updates, and whether
    the last state is.
    """

    names = list(member.metrics)

    def prepare(step: Array) -> tuple[Minibatch, PRNGKey]:
        key_batch, key_update = update_keys(member.key, step)
        return draw(key_batch, step), key_update

    def update(step: Array, prepared: tuple[Minibatch, PRNGKey], carry: Carry) -> Carry:
        state, totals, _, finite = carry
        learner = ramped(member.learner, ramps, step)
        # The method's own: which class that is, `learners/registry.py` says; XQL's is in learners/xql.py.
        state, metrics = learner.update(state, *prepared)
        last = jnp.stack([metrics[name] for name in names])
        return state, totals + last, last, finite & jnp.isfinite(last)

    def once(step: Array, carry: Carry) -> Carry:
        return update(step, prepare(step), carry)

    def several(first: Array, number: int | Array, carry: Carry) -> Carry:
        """Runs `number` updates, at most `ahead`; a GPU need not wait for a number that is an int."""
        prepared = jax.vmap(prepare)(first + jnp.arange(ahead))

        def at(place: Array, carry: Carry) -> Carry:
            return update(first + place, jax.tree.map(lambda leaf: leaf[place], prepared), carry)

        return jax.lax.fori_loop(0, number, at, carry)

    totals, last = (jnp.stack([of[name] for name in names]) for of in (member.sums.totals, member.metrics))
    begun = member.state, totals, last, jnp.ones(len(names), bool)
    if ahead == 1:
        state, totals, last, finite = jax.lax.fori_loop(start, stop, once, begun)
    else:
        whole = jnp.maximum(stop - start, 0) // ahead
        begun = jax.lax.fori_loop(0, whole, lambda n, carry: several(start + n * ahead, ahead, carry), begun)
        rest = start + whole * ahead
        state, totals, last, finite = several(rest, stop - rest, begun)
    sums = Sums(member.sums.updates + jnp.maximum(stop - start, 0), dict(zip(names, totals, strict=True)))
    metrics = dict(zip(names, last, strict=True))
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]
    was_finite = dict(zip(names, finite, strict=True)) | {STATE: jnp.stack(leaves).all()}
    return member.replace(state=state, sums=sums, metrics=metrics), was_finite
