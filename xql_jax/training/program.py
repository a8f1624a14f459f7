"""What runs inside the compiled program: a member's updates, and how the members of a group share it."""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from xql_jax.settings import settings_of, with_values
from xql_jax.training.groups import AXIS, DEVICES, Group
from xql_jax.training.members import MemberState, Sums
from xql_jax.training.schedule import Ramp, ramped
from xql_jax.types import Array, Metrics, Minibatch, PRNGKey, State

Tree = TypeVar("Tree")
STATE = "state"  # what is checked to be finite, besides each metric
AHEAD = 50  # most updates whose minibatches are drawn at once; a divisor of usual intervals
AHEAD_BYTES = 32 * 2**20  # most bytes of these minibatches, on a device
# By the platform. A GPU's compiler would make one product of those that share an input, and more kernels for
# what follows each.
COMPILER_OPTIONS = {"gpu": {"xla_gpu_dot_merger_threshold_mb": 0}}
GRADIENT_LIMIT = "max_grad_norm"  # of `parts.Trained`; inf: none

# What the loop carries: the state, and of all metrics f32[m] their sums, the last ones and, bool[m],
# whether each was finite. As vectors they are computed by one kernel.
Carry = tuple[State, Array, Array, Array]


class Program(abc.ABC):
    """What a `Population` does inside its compiled program; all other methods of one run on the host.

    `program` maps `train_member` over the members of a group. That is `run_updates`, which calls the method's
    own `update`.

    On an accelerator the members of all devices run in one program under `vmap`, with as few kernels as can
    be: a lone member has no axis of members, states are `in_few_kernels`, minibatches are drawn `ahead`,
    and the gradient's norm is left out if no member clips. On a CPU members run one after the other on each
    device, because batched matrix products are slower there. The two differ in rounding alone.
    """

    together: bool  # whether members run under `vmap`
    clips: bool  # whether any member's gradients may be clipped
    ramps: Sequence[Ramp]  # hyperparameters that change with the update
    minibatch_bytes: int
    most_ahead = AHEAD
    shares_data = True  # all members of a group share a call's data; else each has its own part [m, ...]

    @abc.abstractmethod
    def draw(self, member: MemberState, data: State, key: PRNGKey, step: Array) -> Minibatch:
        """Returns the minibatch of a member's update `step`."""

    def train_member(
        self, member: MemberState, data: State, start: Array, stop: Array, ahead: int = 1
    ) -> tuple[MemberState, Metrics]:
        """Trains one member from step `start` to `stop`; see `run_updates`."""
        draw = functools.partial(self.draw, member, data)
        return run_updates(member, start, stop, draw, self.ramps, ahead)

    def program(self, group: Group) -> Any:
        """Returns the jitted function that maps `train_member` over the members of a group."""
        from xql_jax.learners.few_kernels import as_kept  # `--help` does without their optax
        from xql_jax.learners.parts import in_few_kernels

        own, ahead = None if self.shares_data else 0, 1
        if self.together:
            room = AHEAD_BYTES // (group.per_device * self.minibatch_bytes)
            ahead = max(1, min(self.most_ahead, room))

        def one(member, experience, data, start, stop):
            member = member.joined(experience)
            if self.together:
                learner = member.learner if self.clips else without_clipping(member.learner)
                member = member.replace(learner=learner, state=in_few_kernels(member.state))
            trained, finite = self.train_member(member, data, start, stop, ahead)
            return trained.replace(learner=(), key=(), state=as_kept(trained.state)), finite

        def alone(members, experience, data, start, stop):
            member, experience = at_place((members, experience), 0)
            trained = one(member, experience, data if own is None else at_place(data, 0), start, stop)
            return jax.tree.map(lambda leaf: leaf[None], trained)

        if not self.together:
            return jax.jit(alone, donate_argnums=1)
        several = jax.vmap(one, in_axes=(0, 0, own, None, None), axis_name=AXIS)
        split, shared = PartitionSpec(DEVICES), PartitionSpec()
        program = jax.shard_map(
            several if group.per_device > 1 else alone,
            mesh=group.split.mesh,  # type: ignore[attr-defined]
            in_specs=(split, split, shared if own is None else split, shared, shared),
            out_specs=split,
            check_vma=False,  # members never exchange anything
        )
        return jax.jit(program, donate_argnums=1)


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
