"""What runs inside the compiled program: a member's updates."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from xql_jax.training.members import Experience, MemberState, Sums
from xql_jax.training.schedule import Ramp, ramped
from xql_jax.types import Array, Metrics, Minibatch, PRNGKey, State

Tree = TypeVar("Tree")
STATE = "state"  # what is checked to be finite, besides each metric
# What the loop carries: the state, and of all metrics f32[m] their sums, the last ones and, bool[m],
# whether each was finite. As vectors they are computed by one kernel.
Carry = tuple[State, Array, Array, Array]
Prepared = tuple[Minibatch, PRNGKey]
Prepare = Callable[[Array], Prepared]  # for an update, by its number
Update = Callable[[Array, Prepared, Carry], Carry]
Loop = Callable[[Array, Array, Prepare, Update, Carry], Carry]  # updates start, ..., stop - 1


def update_keys(key: PRNGKey, step: Array) -> tuple[PRNGKey, PRNGKey]:
    """Returns the two keys of an update: one draws the minibatch, the other is passed to the learner."""
    key_batch, key_update = jax.random.split(jax.random.fold_in(key, step))
    return key_batch, key_update


def run_updates(
    member: MemberState,
    start: Array,
    stop: Array,
    draw: Callable[[PRNGKey, Array], Minibatch],
    ramps: Sequence[Ramp],
    loop: Loop,
) -> tuple[MemberState, Metrics]:
    """Runs updates start, ..., stop - 1 of one member, each on the minibatch `draw(key, step)`.

    In update t the learner has the ramps' values at t. The loop is `one_by_one`, or an accelerator's.
    Returns the member; and bool[] by name: whether the metric was finite in all of these updates, and whether
    the last state is.
    """
    names = list(member.metrics)

    def prepare(step: Array) -> Prepared:
        key_batch, key_update = update_keys(member.key, step)
        return draw(key_batch, step), key_update

    def update(step: Array, prepared: Prepared, carry: Carry) -> Carry:
        state, totals, _, finite = carry
        learner = ramped(member.learner, ramps, step)
        # The method's own: which class that is, `learners/registry.py` says; XQL's is in learners/xql.py.
        state, metrics = learner.update(state, *prepared)
        last = jnp.stack([metrics[name] for name in names])
        return state, totals + last, last, finite & jnp.isfinite(last)

    totals, last = (jnp.stack([of[name] for name in names]) for of in (member.sums.totals, member.metrics))
    begun = member.state, totals, last, jnp.ones(len(names), bool)
    state, totals, last, finite = loop(start, stop, prepare, update, begun)
    sums = Sums(member.sums.updates + jnp.maximum(stop - start, 0), dict(zip(names, totals, strict=True)))
    metrics = dict(zip(names, last, strict=True))
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]
    was_finite = dict(zip(names, finite, strict=True)) | {STATE: jnp.stack(leaves).all()}
    return member.replace(state=state, sums=sums, metrics=metrics), was_finite


def one_by_one(start: Array, stop: Array, prepare: Prepare, update: Update, carry: Carry) -> Carry:
    return jax.lax.fori_loop(start, stop, lambda step, carry: update(step, prepare(step), carry), carry)


def of_lone_member(train: Callable, shares_data: bool) -> Callable:
    """Returns `train` of one member mapped over the members of a group with only one: no axis is added."""

    def mapped(members: MemberState, experience: Experience, data: State, start: Array, stop: Array) -> Any:
        member, experience = at_place((members, experience), 0)
        trained = train(member, experience, data if shares_data else at_place(data, 0), start, stop)
        return jax.tree.map(lambda leaf: leaf[None], trained)

    return mapped


@jax.jit
def at_place(tree: Tree, place: int) -> Tree:
    """Returns one member's part of stacked arrays."""
    return jax.tree.map(lambda leaf: leaf[place], tree)
