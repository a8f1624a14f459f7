"""Data to learn from: the minibatches' transitions lie on the device, or are streamed from the host.

Both draw update t's minibatch from the same key, so a run learns from the same transitions either way.
"""

import concurrent.futures
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.data.sampling import (
    Packed,
    Trajectories,
    fits,
    room_on_host,
    sample,
    sample_indices,
)
from xql_jax.training.members import Member
from xql_jax.training.population import Call, Kind, Population
from xql_jax.training.program import Group, MemberState, update_keys
from xql_jax.training.schedule import Ramp
from xql_jax.types import AnyBatch, Array, Learner, Minibatch, PRNGKey

BLOCK_BYTES = 32 * 2**20  # a few hundred updates of one member; large enough to amortise each transfer


class Resident(Kind):
    """All transitions on every device, shared by all members; minibatches are drawn inside the program."""

    def __init__(self, data: AnyBatch | Trajectories | Packed, batch_size: int):
        self.data, self._batch_size = data, batch_size
        draw = functools.partial(sample, batch_size=batch_size)
        self.minibatch = jax.eval_shape(draw, data, jax.random.key(0))

    def draw(self, member: MemberState, data: Any, key: PRNGKey, step: Array) -> Minibatch:
        return sample(data, key, self._batch_size)


class StreamedBlock(NamedTuple):
    """The data of a call of the program, for each of m members."""

    first: np.ndarray  # i32[m], the update of the first minibatch
    minibatches: Minibatch | Packed | Trajectories  # f32[m, K, B, ...], or the rows of all windows in turn


class Streamed(Kind):
    """Minibatches sent from the host in blocks; a thread gathers and sends the next one meanwhile.

    The thread that calls a GPU's program also starts its kernels, one by one, so it has no time to gather.
    """

    shares_data = False

    def __init__(self, data: Dataset, batch_size: int, packed: bool):
        self._data, self._batch_size = data, batch_size
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="data")
        self.minibatch = data.take(np.zeros(batch_size, int))
        self._packed = packed and isinstance(data.batch, AnyBatch)
        # Five fields gathered one by one, and then joined, take two to three times as long as whole rows.
        is_whole = self._packed and fits(data.batch, room_on_host())
        self._whole = Packed.of(data.batch) if is_whole else None

    def calls(self, group: Group, start: int, stop: int) -> Iterator[Call]:
        keys = group.members.key
        length = int(np.clip(BLOCK_BYTES // (len(keys) * self.minibatch_bytes), 1, 500))
        sizes = {"length": length, "size": self._data.size, "batch_size": self._batch_size}
        firsts = range(start, max(stop, start + 1), length)  # zero updates also make one call

        def gather(first: int) -> concurrent.futures.Future:
            indices = _indices(keys, np.int32(first), **sizes)
            return self._thread.submit(self._block, group, first, indices, min(length, stop - first))

        coming = gather(start)
        for first in firsts:
            block = coming.result()
            if first != firsts[-1]:  # before `yield`: the device runs what it is given in order
                coming = gather(first + length)
            yield first, min(first + length, stop), block

    def close(self) -> None:
        self._thread.shutdown()

    def draw(self, member: MemberState, data: StreamedBlock, key: PRNGKey, step: Array) -> Minibatch:
        place, rows = step - data.first, data.minibatches
        if isinstance(rows, Packed):
            return rows.take(place)
        if isinstance(rows, Trajectories):  # as a resident program draws them, for the same bits
            numbers = place * self._batch_size + jnp.arange(self._batch_size)
            return rows.windows(numbers * rows.length)
        return jax.tree.map(lambda field: field[place], rows)

    def _block(self, group: Group, first: int, drawn: Array, number: int) -> StreamedBlock:
        """Sends minibatches of indices i32[m, K, B]; those after the first `number` are not used."""
        indices = np.asarray(drawn)
        firsts = np.full(len(indices), first, np.int32)
        if isinstance(self._data.batch, Trajectories):
            rows = self._data.batch.rows_of_windows(indices.reshape(len(indices), -1))
            return jax.device_put(StreamedBlock(firsts, rows), group.split)
        wanted = indices[:, :number].reshape(-1)
        if self._whole:
            taken: Any = Packed(self._whole.rows.take(wanted, axis=0), self._whole.fields)
        else:
            taken = self._data.take(wanted)
            taken = Packed.of(taken) if self._packed else taken  # one transfer, and one slice an update

        def shape(field: np.ndarray) -> np.ndarray:
            """Shapes a field to [m, K, B, ...], always K, so that one program serves all calls."""
            by_update = field.reshape(len(indices), number, *indices.shape[2:], *field.shape[1:])
            padding = [(0, 0), (0, indices.shape[1] - number), *[(0, 0)] * (by_update.ndim - 2)]
            return np.pad(by_update, padding) if number < indices.shape[1] else by_update

        return jax.device_put(StreamedBlock(firsts, jax.tree.map(shape, taken)), group.split)


@functools.partial(jax.jit, static_argnames=("length", "size", "batch_size"))
def _indices(keys: PRNGKey, first: Array, *, length: int, size: int, batch_size: int) -> Array:
    """i32[m, K, B], the transitions' indices for updates first, ..., first + K - 1 of every member."""

    def of_update(key: PRNGKey, step: Array) -> Array:
        return sample_indices(update_keys(key, step)[0], size, batch_size)

    steps = first + jnp.arange(length)
    return jax.vmap(lambda key: jax.vmap(functools.partial(of_update, key))(steps))(keys)


def offline_population(
    learner: Learner,
    members: Sequence[Member],
    data: AnyBatch | Trajectories | Dataset,
    batch_size: int,
    ramps: Sequence[Ramp] = (),
    together: bool | None = None,
) -> Population:
    """Returns the population for data on the device (`Batch`, `Trajectories`) or the host (`Dataset`)."""
    # Packed only where members share a program: a CPU would gain nothing, and lose 9% with ant's rows.
    packed = jax.default_backend() != "cpu" if together is None else together
    if isinstance(data, Dataset):
        kind: Kind = Streamed(data, batch_size, packed)
    else:
        kind = Resident(Packed.of(data) if packed and isinstance(data, AnyBatch) else data, batch_size)
    kind.ramps = ramps
    return Population(learner, members, kind, together)
