"""The program as an accelerator runs it: the same updates, up to rounding, in fewer kernels.

A small update takes as long there as its kernels take to start. So minibatches are drawn for many updates at
once, a lone member has no axis of members, what is off for all members is a constant, the networks of a
critic are one array, as are a first layer's kernel and bias and all small arrays, and Adam's step has fewer
operations. Learners do not know of it, and only what is the package's own is changed: states and optimisers
of one's own are trained as they are.
"""

import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from xql_jax.learners.method import is_ours
from xql_jax.learners.parts import CriticState, NetworkState
from xql_jax.networks.mlp import GaussianPolicy, Value
from xql_jax.numerics.late_sums import with_late_sums
from xql_jax.numerics.pytrees import Distinct
from xql_jax.training.members import AXIS, DEVICES, Ramp, ramped
from xql_jax.training.program import Carry, Group, Kind, Loop, Prepare, Update, of_lone_member, one_by_one
from xql_jax.types import Array, Learner, Numeric, Params

Tree = TypeVar("Tree")
AHEAD_BYTES = 32 * 2**20  # most bytes of the minibatches that are drawn at once, on a device
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # optax's, which `parts.ADAM` has
# A GPU's compiler would make one product of those that share an input, and kernels for what follows each.
COMPILER_OPTIONS = {"gpu": {"xla_gpu_dot_merger_threshold_mb": 0}}
SMALL = 64  # most numbers of an array that is carried in one vector with others
WITH_BIAS = "kernel_and_bias"  # the array of a layer that has one
IS_TRACED = contextvars.ContextVar("IS_TRACED", default=False)  # the update of such a program


def program(kind: Kind, group: Group, constants: Sequence[float | None]) -> Any:
    """Returns the jitted function that maps `Kind.train_member` over the members of a group.

    `constants` are those of `switched_off`.
    """
    minibatch_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kind.minibatch))
    room = AHEAD_BYTES // (group.per_device * minibatch_bytes)
    ahead = max(1, min(kind.most_ahead, room))

    def one(member, experience, data, start, stop):
        form = side_by_side if is_ours(type(member.learner).update) else lambda carry: carry
        learner = with_constants(member.learner, constants)
        member, loop = member.replace(learner=learner), in_blocks(ahead, form)
        return kind.train_member(member, experience, data, start, stop, loop)

    split, shared = PartitionSpec(DEVICES), PartitionSpec()
    several = jax.vmap(one, in_axes=(0, 0, None, None, None), axis_name=AXIS)
    mesh: Any = group.split.mesh  # type: ignore[attr-defined]
    mapped = jax.shard_map(
        several if group.per_device > 1 else of_lone_member(one),
        mesh=mesh,
        in_specs=(split, split, shared, shared, shared),
        out_specs=split,
        check_vma=False,  # members never exchange anything
    )
    options = COMPILER_OPTIONS.get(mesh.devices.flat[0].platform)
    return jax.jit(mapped, donate_argnums=1, compiler_options=options)


def switched_off(learners: Learner, ramps: Sequence[Ramp]) -> list[float | None]:
    """Returns for each number of the stacked learners 0 or inf, if all have it in every update, else None.

    The compiler leaves out what such a constant switches off, as the gradient's norm if nobody clips.
    """
    steps = map(jnp.float32, {0.0}.union(*(ramp.steps for ramp in ramps)))  # ramps are linear between
    count = next((len(leaf) for leaf in jax.tree.leaves(learners)), 0)
    every = [jax.tree.leaves(ramped(learners, ramps, step, count)) for step in steps]
    leaves = zip(*jax.device_get(every), strict=True)
    found = [{*np.ravel(each).tolist()} if each[0].dtype == np.float32 else set() for each in leaves]
    return [values.pop() if values in ({0.0}, {np.inf}) else None for values in found]


def with_constants(learner: Learner, constants: Sequence[float | None]) -> Learner:
    leaves, structure = jax.tree.flatten(learner)
    new = [leaf if c is None else jnp.full_like(leaf, c) for leaf, c in zip(leaves, constants, strict=True)]
    return jax.tree.unflatten(structure, new)


def in_blocks(ahead: int, form: Callable[[Carry], Carry]) -> Loop:
    """Returns a loop that draws `ahead` minibatches at once, and carries what `form` makes of states."""

    def loop(start: Array, stop: Array, prepare: Prepare, update: Update, carry: Carry) -> Carry:
        def rewritten(step: Array, prepared: Any, carry: Any) -> Any:
            token = IS_TRACED.set(True)
            # A copy that XLA does not see as one. Else the next vector would wait for all who read this one.
            small = jax.lax.optimization_barrier(carry[0] + (step < 0))
            try:
                with nn.intercept_methods(of_ones):
                    return packed(form(with_late_sums(update)(step, prepared, undone((small, carry[1])))))[0]
            finally:
                IS_TRACED.reset(token)

        def several(first: Array, number: int | Array, carry: Carry) -> Carry:
            """Runs `number` updates, at most `ahead`; a GPU need not wait for a number that is an int."""
            prepared = rows_of(jax.vmap(prepare)(first + jnp.arange(ahead)))

            def at(place: Array, carry: Carry) -> Carry:
                return rewritten(first + place, prepared(place), carry)

            return jax.lax.fori_loop(0, number, at, carry)

        carry, undone = packed(form(carry))
        if ahead == 1:
            return apart(undone(one_by_one(start, stop, prepare, rewritten, carry)))
        whole = jnp.maximum(stop - start, 0) // ahead
        carry = jax.lax.fori_loop(0, whole, lambda n, carry: several(start + n * ahead, ahead, carry), carry)
        rest = start + whole * ahead
        return apart(undone(several(rest, stop - rest, carry)))

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


def packed(tree: Tree) -> tuple[Any, Callable[[Any], Tree]]:
    """Returns a tree whose small arrays are bits of one vector, which one kernel writes; and the way back."""
    leaves, structure = jax.tree.flatten(tree)
    pairs = [(leaf, leaf.size <= SMALL and leaf.dtype in (np.float32, np.int32, bool)) for leaf in leaves]
    vector, parted = ravel_pytree([as_type(leaf, np.int32) for leaf, small in pairs if small])

    def undone(given: Any) -> Tree:
        parts, large = iter(parted(given[0])), iter(given[1])
        new = [as_type(next(parts), leaf.dtype) if small else next(large) for leaf, small in pairs]
        return jax.tree.unflatten(structure, new)

    return (vector, [leaf for leaf, small in pairs if not small]), undone


def as_type(bits: Array, kind: Any) -> Array:
    return bits.astype(kind) if bool in (bits.dtype, kind) else bits.view(kind)


class SideBySide(Distinct, flax.struct.PyTreeNode):
    """Trees of equal shapes along a new leading axis of each leaf; it is read as a tuple of these trees."""

    joined: Params

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.joined)[0])

    def __getitem__(self, place: int) -> Params:
        if place >= len(self):
            raise IndexError(place)
        return jax.tree.map(lambda leaf: leaf[place], self.joined)


def side_by_side(tree: Tree) -> Tree:
    """Returns the tree with critics' networks `SideBySide`, and first layers' biases in kernels."""

    def joined(trees: Any) -> Any:
        shapes = {str(jax.tree.map(jax.typeof, tree)) for tree in trees} if type(trees) is tuple else ()
        if len(shapes) != 1 or len(trees) == 1:
            return trees
        return SideBySide(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees))

    def with_bias(layer: Any) -> Any:
        is_first = is_layer(layer) and "kernel" in layer and np.less(*layer["kernel"].shape[-2:])
        rows = (layer["kernel"], layer["bias"][..., None, :]) if is_first else ()
        return {WITH_BIAS: jnp.concatenate(rows, axis=-2)} if is_first else layer

    def of_network(part: Any) -> Any:
        adam: Any = part.optimizer_state if isinstance(part, NetworkState) and is_ours(type(part)) else None
        if type(adam) is not optax.ScaleByAdamState:
            return part
        trees = part.params, part.target, adam.mu, adam.nu
        if isinstance(part, CriticState):
            trees = tuple(map(joined, trees))
        if type(part.network) in (Value, GaussianPolicy):
            trees = jax.tree.map(with_bias, trees, is_leaf=is_layer)
        params, target, mu, nu = trees
        # A network that it has beside it, such as a slow copy, has the same form.
        part = part.replace(params=None, target=None, optimizer_state=None)
        part = jax.tree.map(of_network, part, is_leaf=lambda one: one is not part and is_network(one))
        return part.replace(params=params, target=target, optimizer_state=adam._replace(mu=mu, nu=nu))

    def is_network(part: Any) -> bool:
        return isinstance(part, NetworkState)

    return jax.tree.map(of_network, tree, is_leaf=is_network)


def apart(tree: Tree) -> Tree:
    """Undoes `side_by_side`."""

    def is_joined(part: Any) -> bool:
        return isinstance(part, SideBySide) or (isinstance(part, dict) and WITH_BIAS in part)

    def undone(part: Any) -> Any:
        if isinstance(part, SideBySide):
            return apart(tuple(part[place] for place in range(len(part))))
        rows = part[WITH_BIAS] if is_joined(part) else None
        return part if rows is None else {"kernel": rows[..., :-1, :], "bias": rows[..., -1, :]}

    return jax.tree.map(undone, tree, is_leaf=is_joined)


def is_layer(part: Any) -> bool:
    return isinstance(part, dict) and not part.keys().isdisjoint(("kernel", WITH_BIAS))


def instead_of(usual: Callable, kind: type) -> Callable[[Callable], Callable]:
    """Returns a decorator: its function takes the place of a state's method while `IS_TRACED`."""

    def decorate(ours: Callable) -> Callable:
        @functools.wraps(usual)
        def method(*given: Any) -> Any:
            return (ours if IS_TRACED.get() else usual)(*given)

        setattr(kind, usual.__name__, method)
        return ours

    return decorate


@instead_of(CriticState.each, CriticState)
def each(critic: CriticState, params: Params, observations: Array, actions: Array) -> Sequence[Array]:
    """One kernel serves all networks."""
    if not isinstance(params, SideBySide):
        return [critic.apply(own, observations, actions) for own in params]
    # Inputs for each, else XLA makes one product of their first layers, and kernels for the biases.
    inputs = [jnp.broadcast_to(one, (len(params), *one.shape)) for one in (observations, actions)]
    return jax.vmap(critic.apply)(params.joined, *inputs)


@instead_of(CriticState.min_q, CriticState)
def min_q(critic: CriticState, observations: Array, actions: Array) -> Array:
    """Its gradient does not look for the least among values: one that is computed twice may differ."""
    each = critic.each(critic.params, observations, actions)
    return functools.reduce(lambda a, b: jnp.where((a > b) | jnp.isnan(b), b, a), each)


def of_ones(call: Callable, given: Sequence[Array], options: Any, context: Any) -> Any:
    """A layer's output, where its bias is a row of its kernel: its inputs get a column of ones."""
    if not context.module.has_variable("params", WITH_BIAS):
        return call(*given, **options)
    inputs = jnp.concatenate([*given, jnp.ones_like(given[0][..., :1])], axis=-1)
    return inputs @ context.module.get_variable("params", WITH_BIAS)


@instead_of(NetworkState.stepped, NetworkState)
def stepped(network: NetworkState, gradients: Params, rate: Numeric) -> NetworkState:
    """Adam in fewer operations: one kernel for each array and for each network's scalars."""
    count = optax.safe_increment(network.optimizer_state.count)
    mu, nu, scale = network.optimizer_state.mu, network.optimizer_state.nu, jnp.sqrt(1.0 - BETA_2**count)
    mu = jax.tree.map(lambda m, g: m + (1.0 - BETA_1) * (g - m), mu, gradients)
    nu = jax.tree.map(lambda n, g: n + (1.0 - BETA_2) * (g * g - n), nu, gradients)
    size, least = rate * scale / (1.0 - BETA_1**count), EPSILON * scale
    params = jax.tree.map(lambda p, m, n: p - size * (m / (jnp.sqrt(n) + least)), network.params, mu, nu)
    return network.replace(params=params, optimizer_state=optax.ScaleByAdamState(count, mu, nu))
