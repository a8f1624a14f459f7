"""A population: one algorithm under several seeds and hyperparameters, trained as one compiled program."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xql_jax.data.windows import Trajectories
from xql_jax.evaluation.policies import Act
from xql_jax.training.checkpoints import Progress
from xql_jax.training.members import Member, learners_of, parted, stacked
from xql_jax.training.minibatches import Feed, Resident, Streamed, update_keys
from xql_jax.training.policies import deterministic_policy, finite_policy
from xql_jax.types import (
    AnyBatch,
    Array,
    Learner,
    Metrics,
    Minibatch,
    PRNGKey,
    State,
    Transitions,
)

AXIS = "population"


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first step after which a member's metrics, state or actions were found not to be all finite."""

    # Updates, counted from 1, as in the logs. Online the environment's step that ends the round; of actions
    # the one that they were for.
    step: int
    quantity: str  # the metrics that were not finite, or "state", or "actions"


class Saving(NamedTuple):
    """What a checkpoint of now is to hold."""

    states: dict[str, State]  # by the member's name, NumPy
    members: Mapping[str, Mapping[str, Any]]  # what else each must know, for JSON
    held: Mapping[str, Any] = {}  # what all of them must know
    write: Callable[[], None] = lambda: None  # of all else, called in the checkpoints' thread


class Population:
    """Stacked learners, states and keys of the members, and the one compiled program that advances them.

    The leading axis of every leaf is the member. It is split over the devices; on one device, members run
    together under `vmap` on an accelerator, and one after the other on a CPU, where a batched matrix product
    is slower.

    Args:
        learner: its traced fields are overridden by each member's hyperparameters.
        members: M of them.
        data: a Batch of all transitions, or Trajectories, is put on the device; Transitions stay on the host
            and are streamed, which changes the speed and nothing else.
        batch_size: B, transitions per update.
    Attributes:
        step: updates done; its unit is "update", and it can stop after any.
        states: the members' states; a member that diverged stays at its last finite one.
        diverged: by the member's index.
        compile_seconds: what tracing and compiling took.
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
        self._mesh = mesh = _mesh(len(members))
        split, shared = PartitionSpec(AXIS), PartitionSpec()
        if isinstance(data, AnyBatch | Trajectories):
            example = data.observations[:1], data.actions[:1]
            self._feed: Feed = Resident(data, mesh, batch_size)
        else:
            first = data.take(np.zeros(1, int))
            example = first.observations, first.actions
            self._feed = Streamed(data, mesh, batch_size, len(members))

        seeds = jnp.stack([jax.random.key(member.seed) for member in members])
        init_keys, run_keys = jax.vmap(jax.random.split)(seeds).T
        # One by one, each awaited: a batch of QR factorisations (the orthogonal initialisation) waits in
        # jaxlib 0.10.2 for the thread pool that runs it, and two of them at once on two cores wait for ever.
        init = jax.jit(lambda l, key: l.init(key, *example))
        learners = learners_of(learner, members)
        states = [jax.block_until_ready(init(*member)) for member in zip(learners, init_keys, strict=True)]
        on_members = NamedSharding(mesh, split)
        self.learners, self._keys = jax.device_put((stacked(learners), run_keys), on_members)
        self.states: State = jax.device_put(stacked(states), on_members)

        together = jax.default_backend() != "cpu"
        program = jax.shard_map(
            functools.partial(_train_members, feed=self._feed, together=together),
            mesh=mesh,
            in_specs=(split, split, split, self._feed.partition, shared, shared),
            out_specs=split,
            check_vma=False,  # members never exchange anything
        )
        [(_, _, piece)] = self._feed.pieces(self._keys, 0, 1)
        arguments = (self.learners, self.states, self._keys, piece, np.int32(0), np.int32(1))
        started = time.perf_counter()
        self._program = jax.jit(program, donate_argnums=1).lower(*arguments).compile()
        self.compile_seconds = time.perf_counter() - started

    def advance(self, stop: int) -> Metrics:
        """Runs updates step, ..., stop - 1 of every member; returns the last one's metrics, each f32[M].

        The result does not depend on how steps are cut into calls: update t draws everything random from
        fold_in(key, t), and one program serves every start and stop. For the same reason the program need not
        look for divergence at every update: when a call ends with numbers that are not finite, the member's
        last finite state is found by running the same updates again, and the member is frozen there.
        """
        start, before = self.step, _copy(self.states)
        states, metrics, finite = self._run(self.states, start, stop)
        for index in np.flatnonzero(~finite).tolist():
            if index not in self.diverged:
                last_finite, self.diverged[index] = self._find_divergence(before, index, start, stop)
                before = _select(np.arange(len(self.members)) == index, last_finite, before)
        if self.diverged:
            frozen = np.isin(np.arange(len(self.members)), list(self.diverged))
            states = _select(frozen, before, states)
        self.states = states
        self.step = stop
        return metrics

    def policy(self) -> Act:
        """Returns the members' deterministic policies as they are now: f32[M, K, O] to f32[M, K, A].

        They serve until the next `advance`, which consumes the states. A member of which an action is not
        finite has diverged if it had not before; see `finite_policy`.
        """
        step = self.step

        def diverge(index: int) -> None:
            self.diverged.setdefault(index, Divergence(step, "actions"))

        return finite_policy(deterministic_policy(self.learners, self.states), diverge)

    def resume(self, states: Mapping[str, State], progress: Progress) -> None:
        """Goes on from a checkpoint: its members' states, placed as these are, and its progress."""
        in_order = [states[member.name] for member in self.members]
        arrays = jax.tree.map(lambda *leaves: np.stack(leaves), *in_order)
        # Copies in memory of the device's own: NumPy's, which `device_put` may share, is not to be donated.
        self.states = _copy(jax.device_put(arrays, NamedSharding(self._mesh, PartitionSpec(AXIS))))
        self.step = progress.step
        held = {i: progress.members[member.name]["diverged"] for i, member in enumerate(self.members)}
        self.diverged = {index: Divergence(**divergence) for index, divergence in held.items() if divergence}

    def saving(self) -> Saving:
        diverged = {
            member.name: {"diverged": dataclasses.asdict(self.diverged[i]) if i in self.diverged else None}
            for i, member in enumerate(self.members)
        }
        return Saving(parted(self.states, self.members), diverged)

    def close(self) -> None:
        """Leaves nothing behind: there is nothing to close."""

    def member(self, index: int) -> tuple[Learner, State]:
        """Returns one member's learner and state."""
        return jax.tree.map(lambda leaf: leaf[index], (self.learners, self.states))

    def _run(self, states: State, start: int, stop: int) -> tuple[State, Metrics, np.ndarray]:
        """Consumes `states`; the last result is bool[M], was all of it finite."""
        finite = []
        for first, after, piece in self._feed.pieces(self._keys, start, stop):
            states, metrics, piece_finite = self._program(
                self.learners, states, self._keys, piece, np.int32(first), np.int32(after)
            )
            finite.append(piece_finite)
            for earlier in finite[-2:-1]:  # one call runs while the next one's data is made ready, no more
                earlier.block_until_ready()
        return states, metrics, np.all(finite, axis=0) & np.asarray(_all_finite(states))

    def _find_divergence(self, before: State, index: int, start: int, stop: int) -> tuple[State, Divergence]:
        """Bisects the calls from `start` for the member's last finite state; what is not finite stays so."""
        good, bad = start, stop
        while bad - good > 1:
            middle = (good + bad) // 2
            finite = self._run(_copy(before), start, middle)[2]
            good, bad = (middle, bad) if finite[index] else (good, middle)
        last_finite = self._run(_copy(before), start, good)[0]
        metrics = self._run(_copy(last_finite), good, bad)[1]
        names = [name for name, metric in metrics.items() if not np.isfinite(np.asarray(metric)[index])]
        return last_finite, Divergence(step=bad, quantity=", ".join(names) or "state")


def train(
    learner: Learner,
    state: State,
    key: PRNGKey,
    data: Any,
    start: Array,
    stop: Array,
    batch: Callable[[Any, PRNGKey, Array], Minibatch],
) -> tuple[State, Metrics, Metrics]:
    """Updates start, ..., stop - 1 of one learner, each from the minibatch that `batch` makes of the data.

    Returns:
        The state, the last update's metrics, and by metric bool[]: was it finite in all updates.
    """

    def update(step: Array, carry: tuple[State, Metrics, Metrics]) -> tuple[State, Metrics, Metrics]:
        state, _, finite = carry
        key_batch, key_update = update_keys(key, step)
        state, metrics = learner.update(state, batch(data, key_batch, step), key_update)
        return state, metrics, {name: finite[name] & jnp.isfinite(metrics[name]) for name in metrics}

    minibatch = jax.eval_shape(batch, data, key, start)
    metrics = jax.eval_shape(learner.update, state, minibatch, key)[1]
    no_metrics = jax.tree.map(lambda metric: jnp.zeros(metric.shape, metric.dtype), metrics)
    finite = dict.fromkeys(metrics, jnp.bool_(True))
    return jax.lax.fori_loop(start, stop, update, (state, no_metrics, finite))


def _train_members(learners, states, keys, data, start, stop, *, feed: Feed, together: bool):
    """`train` for the members on one device."""

    def one(member: tuple[Any, ...]) -> tuple[State, Metrics, Array]:
        learner, state, key, *own = member
        state, metrics, finite = train(learner, state, key, own[0] if own else data, start, stop, feed.batch)
        return state, metrics, jnp.stack(list(finite.values())).all()

    # Data that all members share is no argument of theirs: it is closed over, and never copied for each.
    own = () if feed.partition == PartitionSpec() else (data,)
    members = (learners, states, keys, *own)
    return jax.vmap(one)(members) if together else jax.lax.map(one, members)


def _mesh(num_members: int) -> Mesh:
    """As many of the devices as divide the members evenly."""
    devices = jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if num_members % n == 0)
    return Mesh(np.array(devices[:count]), (AXIS,))


@jax.jit
def _copy(states: State) -> State:
    return jax.tree.map(jnp.copy, states)


@jax.jit
def _select(mask: Array, chosen: State, others: State) -> State:
    """Members where mask bool[M] from `chosen`, the rest from `others`."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, chosen, others)


@jax.jit
def _all_finite(states: State) -> Array:
    """bool[M]: is every number of each member's state finite."""
    leaves = [jnp.isfinite(leaf.reshape(len(leaf), -1)).all(-1) for leaf in jax.tree.leaves(states)]
    return jnp.stack(leaves).all(0)
