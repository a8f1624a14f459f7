"""A population: one algorithm with several seeds and hyperparameters, trained as one compiled program."""

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from xql_jax.data.sampling import sample
from xql_jax.data.windows import Trajectories
from xql_jax.rollout.policies import Act
from xql_jax.training.checkpoints import Progress
from xql_jax.training.devices import AXIS, padded, population_mesh
from xql_jax.training.members import Member, learners_of, member_shapes, parted, stacked
from xql_jax.training.minibatches import Feed, Resident, Streamed
from xql_jax.training.policies import deterministic_policy, finite_policy
from xql_jax.training.trainable import Divergence, Saving
from xql_jax.training.updates import Sums, train
from xql_jax.types import (
    AnyBatch,
    Array,
    Learner,
    Metrics,
    State,
    Transitions,
)

Tree = TypeVar("Tree")


class Population:
    """The members' stacked learners, states and keys, and the one compiled program that advances them.

    A member is one seed with one setting of the swept hyperparameters. The leading axis of every leaf is over
    the members, and is split over this process's devices. If their number does not divide evenly, copies of
    the last member fill the axis; only `states` shows the copies' results. On one device of an accelerator
    the members run together under `vmap`. On a CPU they run one after the other, because batched matrix
    products are slower there.

    Args:
        learner: its traced fields are overridden by each member's hyperparameters.
        members: M of them.
        data: a Batch of all transitions, or Trajectories, is put on the device. Transitions stay on the host
            and are streamed, which changes the speed but not the results.
        batch_size: B, transitions per update.
    Attributes:
        step: updates done so far.
        unit, stride: a step is one update, and training can stop after any of them.
        states: of the members, then of the copies; a member that diverged keeps its last finite state.
        diverged: the divergences, by the member's index.
        compile_seconds: time that tracing and compiling took, in `compile` or the first `advance`.
    """

    unit = "update"
    stride = 1

    def __init__(
        self,
        learner: Learner,
        members: Sequence[Member],
        data: AnyBatch | Trajectories | Transitions,
        batch_size: int,
    ):
        self.members = list(members)
        self.step = 0
        self.diverged: dict[int, Divergence] = {}
        self._mesh = mesh = population_mesh(len(members))
        slots = self._slots = padded(self.members, mesh)
        if isinstance(data, AnyBatch | Trajectories):
            example = data.observations[:1], data.actions[:1]
            draw = functools.partial(sample, batch_size=batch_size)
            minibatch = jax.eval_shape(draw, data, jax.random.key(0))
            self._feed: Feed = Resident(data, mesh, batch_size)
        else:
            first = data.take(np.zeros(1, int))
            example = first.observations, first.actions
            minibatch = data.take(np.zeros(batch_size, int))
            self._feed = Streamed(data, mesh, batch_size, len(slots))

        seeds = jnp.stack([jax.random.key(slot.seed) for slot in slots])
        init_keys, run_keys = jax.vmap(jax.random.split)(seeds).T
        # Members are initialised one at a time. In jaxlib 0.10.2 a batch of QR factorisations (orthogonal
        # initialisation) waits for the thread pool that runs it, and two at once on two cores deadlock.
        init = jax.jit(lambda l, key: l.init(key, *example))
        learners = learners_of(learner, slots)
        states = [jax.block_until_ready(init(*slot)) for slot in zip(learners, init_keys, strict=True)]
        on_members = NamedSharding(mesh, PartitionSpec(AXIS))
        self.learners, self._keys = jax.device_put((stacked(learners), run_keys), on_members)
        self.states: State = jax.device_put(stacked(states), on_members)
        self._no_sums = Sums.none(learners[0], states[0], minibatch)
        self._sums = self._placed_sums([self._no_sums] * len(slots))

        self.compile_seconds = 0.0
        self._program: Any = None

    def compile(self) -> None:
        """Compiles the program that advances the members, if it is not compiled yet."""
        if self._program is not None:
            return
        mesh, split, shared = self._mesh, PartitionSpec(AXIS), PartitionSpec()
        together = jax.default_backend() != "cpu"
        program = jax.shard_map(
            functools.partial(_train_members, feed=self._feed, together=together),
            mesh=mesh,
            in_specs=(split, split, split, split, self._feed.partition, shared, shared),
            out_specs=split,
            check_vma=False,  # members never exchange anything
        )
        [(_, _, piece)] = self._feed.pieces(self._keys, 0, 1)
        numbers = np.int32(0), np.int32(1)
        arguments = (self.learners, self.states, self._sums, self._keys, piece, *numbers)
        started = time.perf_counter()
        self._program = jax.jit(program, donate_argnums=1).lower(*arguments).compile()
        self.compile_seconds = time.perf_counter() - started

    def advance(self, stop: int) -> Metrics:
        """Runs updates step, ..., stop - 1 of every member; returns the last one's metrics, each f32[M].

        The result does not depend on how the updates are split into calls, because update t draws everything
        random from fold_in(key, t), and one program serves every start and stop. For the same reason the
        program does not need to keep a finite state at every update. If a call ends with numbers that are not
        finite, the same updates are run again to find the member's last finite state, and the member is
        frozen at it.
        """
        self.compile()
        start, before = self.step, _copy(self.states)
        states, sums, metrics, finite = self._run(self.states, start, stop)
        for index in np.flatnonzero(~finite[: len(self.members)]).tolist():
            if index not in self.diverged:
                last_finite, self.diverged[index] = self._find_divergence(before, index, start, stop)
                before = _select(np.arange(len(self._slots)) == index, last_finite, before)
        if self.diverged:
            frozen = np.isin(np.arange(len(self._slots)), list(self.diverged))
            states = _select(frozen, before, states)
        self.states, self._sums = states, sums
        self.step = stop
        return self._without_copies(metrics)

    def interval_means(self) -> Metrics:
        """Returns the metrics' means over the updates since `begin_interval`, each [M]."""
        return self._without_copies(self._sums).means()

    def begin_interval(self) -> None:
        """Begins a new interval of `interval_means`."""
        self._sums = self._placed_sums([self._no_sums] * len(self._slots))

    def policy(self) -> Act:
        """Returns the members' deterministic policies as they are now: f32[M, K, O] to f32[M, K, A].

        They are valid until the next `advance`, which donates the states. A member with an action that is not
        finite counts as diverged from then on; see `finite_policy`.
        """
        step = self.step

        def diverge(index: int) -> None:
            self.diverged.setdefault(index, Divergence(step, "actions"))

        policies = deterministic_policy(
            self._without_copies(self.learners), self._without_copies(self.states)
        )
        return finite_policy(policies, diverge)

    def saved_shapes(self) -> dict[str, Any]:
        """Shapes and types of the members' states, by name, as a checkpoint holds them."""
        return member_shapes(self.states, self.members)

    def resume(self, states: Mapping[str, State], progress: Progress) -> None:
        """Continues from a checkpoint: places the members' states on the devices and takes the progress."""
        in_order = [states[slot.name] for slot in self._slots]
        arrays = jax.tree.map(lambda *leaves: np.stack(leaves), *in_order)
        # Copies, because `device_put` may share NumPy's memory, which must not be donated.
        self.states = _copy(jax.device_put(arrays, NamedSharding(self._mesh, PartitionSpec(AXIS))))
        self.step = progress.step
        held = {i: progress.members[member.name]["diverged"] for i, member in enumerate(self.members)}
        self.diverged = {index: Divergence(**divergence) for index, divergence in held.items() if divergence}
        saved = [progress.members[slot.name].get("sums") for slot in self._slots]
        self._sums = self._placed_sums([Sums.restored(of) if of else self._no_sums for of in saved])

    def saving(self) -> Saving:
        sums = parted(self._sums, self.members)
        members = {
            member.name: {"diverged": dataclasses.asdict(self.diverged[i]), "sums": None}
            if i in self.diverged
            else {"diverged": None, "sums": of.saved()}
            for i, (member, of) in enumerate(zip(self.members, sums.values(), strict=True))
        }
        return Saving(parted(self.states, self.members), members)

    def close(self) -> None:
        """Does nothing; a population has nothing to close."""

    def member(self, index: int) -> tuple[Learner, State]:
        """Returns one member's learner and state."""
        return jax.tree.map(lambda leaf: leaf[index], (self.learners, self.states))

    def _without_copies(self, tree: Tree) -> Tree:
        """Returns the members' part of a tree of leaves [S, ...] over members and copies."""
        if len(self._slots) == len(self.members):
            return tree
        return jax.tree.map(lambda leaf: leaf[: len(self.members)], tree)

    def _placed_sums(self, sums: Sequence[Sums]) -> Sums:
        return jax.device_put(stacked(sums), NamedSharding(self._mesh, PartitionSpec(AXIS)))

    def _run(self, states: State, start: int, stop: int) -> tuple[State, Sums, Metrics, np.ndarray]:
        """Runs updates start, ..., stop - 1; donates `states`.

        Returns:
            The states, the sums with these updates, the last update's metrics, and bool[S]: whether all
            metrics and the state were finite.
        """
        sums, finite = self._sums, []
        for first, after, piece in self._feed.pieces(self._keys, start, stop):
            numbers = np.int32(first), np.int32(after)
            states, sums, metrics, piece_finite = self._program(
                self.learners, states, sums, self._keys, piece, *numbers
            )
            finite.append(piece_finite)
            for earlier in finite[-2:-1]:  # prepare at most one call's data ahead
                earlier.block_until_ready()
        return states, sums, metrics, np.all(finite, axis=0) & np.asarray(_all_finite(states))

    def _find_divergence(self, before: State, index: int, start: int, stop: int) -> tuple[State, Divergence]:
        """Finds the member's last finite state by bisection; numbers that stop being finite stay so."""
        good, bad = start, stop
        while bad - good > 1:
            middle = (good + bad) // 2
            finite = self._run(_copy(before), start, middle)[-1]
            good, bad = (middle, bad) if finite[index] else (good, middle)
        last_finite = self._run(_copy(before), start, good)[0]
        metrics = self._run(_copy(last_finite), good, bad)[2]
        names = [name for name, metric in metrics.items() if not np.isfinite(np.asarray(metric)[index])]
        return last_finite, Divergence(step=bad, quantity=", ".join(names) or "state")


def _train_members(learners, states, sums, keys, data, start, stop, *, feed: Feed, together: bool):
    """Runs `train` for the members on one device."""

    def one(member: tuple[Any, ...]) -> tuple[State, Sums, Metrics, Array]:
        learner, state, before, key, *own = member
        done = train(learner, state, before, key, own[0] if own else data, start, stop, feed.batch)
        return done.state, done.sums, done.metrics, jnp.stack(list(done.finite.values())).all()

    # Data that all members share are closed over instead of mapped, so they are never copied per member.
    own = () if feed.is_shared else (data,)
    members = (learners, states, sums, keys, *own)
    return jax.vmap(one)(members) if together else jax.lax.map(one, members)


@jax.jit
def _copy(states: State) -> State:
    return jax.tree.map(jnp.copy, states)


@jax.jit
def _select(mask: Array, chosen: State, others: State) -> State:
    """Returns the members of `chosen` where mask bool[M] is true, and those of `others` elsewhere."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, chosen, others)


@jax.jit
def _all_finite(states: State) -> Array:
    """bool[M]: whether every number of a member's state is finite."""
    leaves = [jnp.isfinite(leaf.reshape(len(leaf), -1)).all(-1) for leaf in jax.tree.leaves(states)]
    return jnp.stack(leaves).all(0)
