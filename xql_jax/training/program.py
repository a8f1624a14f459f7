"""What runs inside the compiled program: a member's updates."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.settings import settings_of, with_values
from xql_jax.training.members import MemberState, Sums
from xql_jax.training.schedule import Ramp, ramped
from xql_jax.types import Array, Metrics, Minibatch, PRNGKey, State

Tree = TypeVar("Tree")
STATE = "state"  # what is checked to be finite, besides each metric
# By the platform. A GPU's compiler would make one product of those that share an input, and more kernels for
# what follows each.
COMPILER_OPTIONS = {"gpu": {"xla_gpu_dot_merger_threshold_mb": 0}}
GRADIENT_LIMIT = "max_grad_norm"  # of `parts.Trained`; inf: none

# What the loop carries: the state, and of all metrics f32[m] their sums, the last ones and, bool[m],
# whether each was finite. As vectors they are computed by one kernel.
Carry = tuple[State, Array, Array, Array]


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
        prepared = rows_of(jax.vmap(prepare)(first + jnp.arange(ahead)))

        def at(place: Array, carry: Carry) -> Carry:
            return update(first + place, prepared(place), carry)

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


def rows_of(tree: Tree) -> Callable[[Array], Tree]:
    """Returns a function that takes one row of each array; one kernel takes those of all equal shapes."""
    leaves, structure = jax.tree.flatten(tree)
    kinds = [(leaf.shape, leaf.dtype) for leaf in leaves]
    stacks = {
        kind: jnp.stack([leaf for leaf, own in zip(leaves, kinds, strict=True) if own == kind], axis=1)
        for kind in kinds
    }

    def at(place: Array) -> Tree:
        rows = {kind: iter(stack[place]) for kind, stack in stacks.items()}
        return jax.tree.unflatten(structure, [next(rows[kind]) for kind in kinds])

    return at


def without_clipping(learner: Any) -> Any:
    """Returns the learner without a limit, as a constant: the compiler leaves out the gradient's norm."""
    has_limit = GRADIENT_LIMIT in settings_of(learner)
    return with_values(learner, {GRADIENT_LIMIT: np.inf}) if has_limit else learner


@jax.jit
def at_place(tree: Tree, place: int) -> Tree:
    """Returns one member's part of stacked arrays."""
    return jax.tree.map(lambda leaf: leaf[place], tree)
