"""The program as an accelerator runs it: the same updates, up to rounding, in fewer kernels.

A small update takes as long there as its kernels take to start. So minibatches are drawn for many updates at
once, a lone member has no axis of members, what is off for all members is a constant, and all small arrays
are one vector. The loop also carries states `in_few_kernels`: the networks of a critic are one array, as are
a first layer's kernel and bias, and Adam's step has fewer operations. What computes with these is written
beside the form of a CPU, in learners/parts.py and networks/mlp.py. States and optimisers of one's own are
trained as they are.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from xql_jax.learners.method import is_ours
from xql_jax.learners.parts import CriticState, MomentsTogether, NetworkState, SideBySide
from xql_jax.networks.mlp import WITH_BIAS, GaussianPolicy, Value
from xql_jax.training.members import (
    DEVICES,
    Carry,
    Draw,
    Drawn,
    Group,
    Loop,
    MemberState,
    Ramp,
    Update,
    ramped,
)
from xql_jax.types import Array, Learner, Metrics, Minibatch, Params, State

Tree = TypeVar("Tree")
Packed = tuple[Array, list[Array]]  # the vector of all small arrays, and the others; see `packed`
AHEAD_BYTES = 32 * 2**20  # most bytes of the minibatches that are drawn at once, on a device
# Else a GPU's compiler joins products that share an input, and adds kernels for the operations after each.
COMPILER_OPTIONS = {"gpu": {"xla_gpu_dot_merger_threshold_mb": 0}}
SMALL = 64  # most numbers of an array that is carried in one vector with others


def in_its_form(training: Callable, constants: Sequence[float | None], ahead: int) -> Callable:
    """Returns the `training` of a member in the form of an accelerator.

    `constants` are what `constant_numbers` returns; minibatches of `ahead` updates are drawn at once.
    """

    def in_form(member: MemberState, data: State, start: Array, stop: Array) -> tuple[MemberState, Metrics]:
        form = in_few_kernels if is_ours(type(member.learner).update) else lambda carry: carry
        learner = with_constants(member.learner, constants)
        return training(member.replace(learner=learner), data, start, stop, in_blocks(ahead, form))

    return in_form


def sharded(mapped: Callable, group: Group) -> jax.stages.Wrapped:
    """Returns the jitted function that maps over the members of a group on each of its devices."""
    split, shared = PartitionSpec(DEVICES), PartitionSpec()
    assert isinstance(group.split, NamedSharding)
    everywhere = jax.shard_map(
        mapped,
        mesh=group.split.mesh,
        in_specs=(split, split, shared, shared, shared),
        out_specs=split,
        check_vma=False,  # members never exchange anything
    )
    platform = next(iter(group.split.device_set)).platform  # type: ignore[attr-defined]
    options = COMPILER_OPTIONS.get(platform)
    return jax.jit(everywhere, donate_argnums=1, compiler_options=options)


def most_ahead(minibatch: Minibatch, most: int, per_device: int) -> int:
    """Returns for how many updates, at most `most`, minibatches of these shapes are drawn at once."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(minibatch))
    return max(1, min(most, AHEAD_BYTES // (per_device * size)))


def constant_numbers(learners: Learner, ramps: Sequence[Ramp]) -> list[float | None]:
    """Returns for each number of the stacked learners 0 or inf, if all have it in every update, else None.

    The compiler leaves out what such a constant switches off, as the gradient's norm if nobody clips.
    """
    steps = map(jnp.float32, {0.0}.union(*(ramp.steps for ramp in ramps)))  # ramps are linear between
    count = next((len(leaf) for leaf in jax.tree.leaves(learners)), 0)
    every = [jax.tree.leaves(ramped(learners, ramps, step, count)) for step in steps]
    leaves = zip(*jax.device_get(every), strict=True)
    numbers = [{*np.ravel(each).tolist()} if each[0].dtype == np.float32 else set() for each in leaves]
    return [values.pop() if values in ({0.0}, {np.inf}) else None for values in numbers]


def with_constants(learner: Learner, constants: Sequence[float | None]) -> Learner:
    leaves, structure = jax.tree.flatten(learner)
    new = [leaf if c is None else jnp.full_like(leaf, c) for leaf, c in zip(leaves, constants, strict=True)]
    return jax.tree.unflatten(structure, new)


def in_blocks(ahead: int, form: Callable[[Carry], Carry]) -> Loop:
    """Returns a loop that draws `ahead` minibatches at once, and carries what `form` makes of states."""

    def loop(start: Array, stop: Array, draw: Draw, update: Update, carry: Carry) -> Carry:
        def in_form(step: Array, drawn: Drawn, carry: Packed) -> Packed:
            # A copy that XLA does not notice: else the next vector would wait for all readers of this vector.
            small = jax.lax.optimization_barrier(carry[0] + (step < 0))
            return packed(form(update(step, undone((small, carry[1])), drawn)))[0]

        def several(first: Array, number: int | Array, carry: Packed) -> Packed:
            """Runs `number` updates, at most `ahead`; a GPU need not wait for a number that is an int."""
            drawn = rows_of(jax.vmap(draw)(first + jnp.arange(ahead)))

            def at(place: Array, carry: Packed) -> Packed:
                return in_form(first + place, drawn(place), carry)

            return jax.lax.fori_loop(0, number, at, carry)

        carried, undone = packed(form(carry))
        if ahead == 1:
            carried = jax.lax.fori_loop(start, stop, lambda n, carry: in_form(n, draw(n), carry), carried)
            return in_usual_form(undone(carried))
        whole = jnp.maximum(stop - start, 0) // ahead
        carried = jax.lax.fori_loop(
            0, whole, lambda n, carry: several(start + n * ahead, ahead, carry), carried
        )
        rest = start + whole * ahead
        return in_usual_form(undone(several(rest, stop - rest, carried)))

    return loop


def rows_of(tree: Tree) -> Callable[[Array], Tree]:
    """Returns a function that takes one row of each array; one kernel takes those of all equal shapes."""
    leaves, structure = jax.tree.flatten(tree)
    kinds = [(leaf.shape, leaf.dtype) for leaf in leaves]
    stacks = {
        kind: jnp.stack([leaf for leaf, own in zip(leaves, kinds, strict=True) if own == kind], axis=1)
        for kind in kinds
    }

    def at(place: Array) -> Tree:
        rows: dict[Any, Iterator[Array]] = {kind: iter(stack[place]) for kind, stack in stacks.items()}
        return jax.tree.unflatten(structure, [next(rows[kind]) for kind in kinds])

    return at


def packed(tree: Tree) -> tuple[Packed, Callable[[Packed], Tree]]:
    """Returns a tree whose small arrays are bits of one vector, which one kernel writes; and the way back."""
    leaves, structure = jax.tree.flatten(tree)
    pairs = [(leaf, leaf.size <= SMALL and leaf.dtype in (np.float32, np.int32, bool)) for leaf in leaves]
    vector, parted = ravel_pytree([as_type(leaf, np.int32) for leaf, small in pairs if small])

    def undone(packed_tree: Packed) -> Tree:
        parts, large = iter(parted(packed_tree[0])), iter(packed_tree[1])
        new = [as_type(next(parts), leaf.dtype) if small else next(large) for leaf, small in pairs]
        return jax.tree.unflatten(structure, new)

    return (vector, [leaf for leaf, small in pairs if not small]), undone


def as_type(bits: Array, kind: DTypeLike) -> Array:
    return bits.astype(kind) if bool in (bits.dtype, kind) else bits.view(kind)


def in_few_kernels(tree: Tree) -> Tree:
    """Returns the tree with critics `SideBySide`, first layers' biases in kernels, and `MomentsTogether`.

    States that have this form already keep it.
    """

    def joined(trees: Params) -> Params:
        shapes = {str(jax.tree.map(jax.typeof, tree)) for tree in trees} if type(trees) is tuple else ()
        if len(shapes) != 1 or len(trees) == 1:
            return trees
        return SideBySide(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees))

    def with_bias(layer: Params) -> Params:
        is_first = is_layer(layer) and "kernel" in layer and np.less(*layer["kernel"].shape[-2:])
        rows = (layer["kernel"], layer["bias"][..., None, :]) if is_first else ()
        return {WITH_BIAS: jnp.concatenate(rows, axis=-2)} if is_first else layer

    def of_network(part: State) -> State:
        if not (isinstance(part, NetworkState) and is_ours(type(part))):
            return part
        if not isinstance(adam := part.optimizer_state, optax.ScaleByAdamState):
            return part
        trees = part.params, part.target, adam.mu, adam.nu
        if isinstance(part, CriticState):
            trees = tuple(map(joined, trees))
        if type(part.network) in (Value, GaussianPolicy):
            trees = jax.tree.map(with_bias, trees, is_leaf=is_layer)
        params, target, mu, nu = trees
        # A network that it has beside it, such as a slow copy, has the same form.
        part = part.replace(params=None, target=None, optimizer_state=None)
        part = jax.tree.map(of_network, part, is_leaf=lambda inner: inner is not part and is_network(inner))
        return part.replace(params=params, target=target, optimizer_state=MomentsTogether(adam.count, mu, nu))

    def is_network(part: State) -> bool:
        return isinstance(part, NetworkState)

    return jax.tree.map(of_network, tree, is_leaf=is_network)


def in_usual_form(tree: Tree) -> Tree:
    """Undoes `in_few_kernels`."""

    def has_form(part: State) -> bool:
        return isinstance(part, SideBySide | MomentsTogether) or (
            isinstance(part, dict) and WITH_BIAS in part
        )

    def undone(part: State) -> State:
        if isinstance(part, SideBySide):
            return in_usual_form(tuple(part[place] for place in range(len(part))))
        if isinstance(part, MomentsTogether):
            return optax.ScaleByAdamState(*map(in_usual_form, part))
        rows = part[WITH_BIAS] if has_form(part) else None
        return part if rows is None else {"kernel": rows[..., :-1, :], "bias": rows[..., -1, :]}

    return jax.tree.map(undone, tree, is_leaf=has_form)


def is_layer(part: Params) -> bool:
    return isinstance(part, dict) and not part.keys().isdisjoint(("kernel", WITH_BIAS))
