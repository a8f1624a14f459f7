"""A replay buffer on the disk, written bit by bit: at each checkpoint, what was inserted since the last.

replay/FIRST-STOP-DIGEST.npz    transitions FIRST, ..., STOP - 1 of all ever inserted, the fields of a `Batch`
replay/NAME.tmp                 in the making

A checkpoint needs to hold but one number, how many transitions had been inserted. A digest of a file's
content and of its owner is part of its name, so that none is read that is not as it was written.
"""

import dataclasses
import functools
import hashlib
import io
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.replay import ReplayBuffer
from xql_jax.errors import Damaged, UserError
from xql_jax.files import read_file, set_aside, write_atomically, writing
from xql_jax.training.manifests import NO_FILE, cannot_read
from xql_jax.types import Batch

LOG = logging.getLogger(__name__)
ROWS_PER_FETCH = 16_384


@dataclasses.dataclass(frozen=True)
class _Segment:
    path: Path
    first: int
    stop: int
    digest: str


@dataclasses.dataclass(frozen=True)
class ReplayFiles:
    """The transitions of one buffer in one folder.

    It knows nothing but what lies there, and may be used from any thread, one at a time. To survive a kill
    anywhere: `append`, then write the checkpoint that counts on it, then `prune`.
    """

    folder: Path
    owner: str = ""  # the run and the member
    drops_damaged: bool = False  # `load` goes on without what is damaged

    def append(self, inserted: int, rows: Batch) -> None:
        """Writes the last transitions before number `inserted`; they are on the disk when this returns.

        What was written of these and later numbers is removed first: a run that went back to a checkpoint
        meets other transitions than it did before.

        Args:
            inserted: transitions ever inserted.
            rows: NumPy f32[n, ...], the last n of them; nothing is written if n is 0.
        Raises:
            UserError: if the disk does not take them.
        """
        count = len(rows.rewards)
        self.truncate(inserted - count)
        if count == 0:
            return
        self._write(inserted, rows)

    def prune(self, inserted: int, capacity: int) -> None:
        """Removes what no checkpoint needs, if the oldest that is kept has `inserted` transitions."""
        self._remove(segment for segment in self._segments() if segment.stop <= inserted - capacity)

    def truncate(self, inserted: int) -> None:
        """Removes what was written after the checkpoint with `inserted` transitions, and unfinished files."""
        self._remove(segment for segment in self._segments() if segment.stop > inserted)

    def load(self, inserted: int, like: ReplayBuffer) -> ReplayBuffer:
        """Returns the buffer as it was, bit for bit, when `inserted` transitions had been inserted.

        Args:
            inserted: where an `append` ended, or 0.
            like: a buffer of the shapes that are wanted, or its `jax.eval_shape`; placed as its arrays are.
        Raises:
            Damaged: if a file is missing or a byte of one changed; with `drops_damaged`, if all are.
            UserError: if they are transitions of other shapes, or cannot be read here and now.
        """
        capacity = like.capacity
        ring = jax.tree.map(lambda field: np.zeros(field.shape, field.dtype), like.data)
        segments = {segment.stop: segment for segment in self._segments()}
        lost: dict[range, Damaged] = {}
        needed, stop = max(0, inserted - capacity), inserted
        while stop > needed:  # from the newest back: each file ends where a later one begins
            earlier = max((other for other in segments if other < stop), default=0)
            segment = segments.get(stop)
            first = max(segment.first if segment else earlier, needed)
            try:
                if segment is None:
                    raise Damaged(f"{self.folder}: the file of the transitions up to {stop:,} is missing")
                for name, rows in self._read(segment, ring)._asdict().items():
                    getattr(ring, name)[np.arange(first, stop) % capacity] = rows[first - segment.first :]
            except Damaged as error:
                if not self.drops_damaged:
                    raise Damaged(f"{error} (--on_damaged_replay=drop goes on without it)") from error
                lost[range(first, stop)] = error
            stop = first
        if lost:
            self._mend(ring, range(needed, inserted), lost, segments)
        # Copies in memory of the device's own: NumPy's, which `device_put` may share, is not to be donated.
        data, count = jax.tree.map(
            lambda field, wanted: jnp.copy(jax.device_put(field, wanted.sharding)),
            (ring, np.int32(inserted)),
            (like.data, like.inserted),
        )
        return ReplayBuffer(data, count)

    def read(self, stop: int | None, like: Batch) -> tuple[int, Batch]:
        """Returns the transitions on the disk that come before number `stop`, without a gap.

        Args:
            stop: None for all there are.
            like: arrays, or their shapes, of the types and widths that are wanted.
        Returns:
            the number of the first, and NumPy f32[n, ...], oldest first.
        Raises:
            Damaged: if a byte of a file changed.
            UserError: if there are none, or not as many; naming those that are there.
        """
        segments = sorted(self._segments(), key=lambda segment: segment.first)
        if not segments:
            raise UserError(f"{self.folder}: no transition of the replay buffer is there")
        joined = [segments.pop()]
        while segments and segments[-1].stop == joined[0].first:
            joined.insert(0, segments.pop())
        first, last = joined[0].first, joined[-1].stop
        stop = last if stop is None else stop
        if not first < stop <= last:
            raise UserError(
                f"{self.folder}: has transitions {first:,} to {last:,} of the run, not those up to {stop:,}"
            )
        parts = [self._read(segment, like) for segment in joined if segment.first < stop]
        return first, jax.tree.map(lambda *fields: np.concatenate(fields)[: stop - first], *parts)

    def _write(self, stop: int, rows: Batch) -> None:
        file = io.BytesIO()
        np.savez(file, **rows._asdict())
        first = stop - len(rows.rewards)
        name = f"{first:010d}-{stop:010d}-{self._digest(file.getbuffer())}.npz"
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / name, file.getbuffer())

    def _mend(
        self, ring: Batch, held: range, lost: Mapping[range, Damaged], segments: Mapping[int, _Segment]
    ) -> None:
        """Fills the places of lost transitions with others, spread over what is whole, and says so.

        The ring keeps its order and its numbers, so that what comes later is as it would be; what is lost is
        not drawn, and what stands in for it is drawn twice, until both are overwritten. What lies in damaged
        files is set aside, and files with what stands there now take their place.
        """
        gone = [number for numbers in lost for number in numbers]
        whole = np.setdiff1d(np.array(held), gone)
        if len(whole) == 0:
            raise Damaged(f"{next(iter(lost.values()))}; nothing of the buffer is whole")
        capacity = len(ring.rewards)
        stand_ins = whole[np.arange(len(gone)) * len(whole) // len(gone)]
        for field in ring:
            field[np.array(gone) % capacity] = field[stand_ins % capacity]
        for numbers in lost:
            if numbers.stop in segments and os.path.lexists(segments[numbers.stop].path):
                set_aside(segments[numbers.stop].path)
            rows = jax.tree.map(lambda field, of=numbers: field[np.array(of) % capacity], ring)
            self._write(numbers.stop, rows)
        LOG.warning(
            f"{self.folder}: {len(gone):,} of {len(held):,} transitions are lost ("
            f"{'; '.join(map(str, lost.values()))}): until they are overwritten, others stand in for them"
        )

    def _digest(self, content: bytes | memoryview) -> str:
        digest = hashlib.sha256(f"{self.owner}\n".encode())
        digest.update(content)
        return digest.hexdigest()[:32]

    def _read(self, segment: _Segment, like: Batch) -> Batch:
        """Returns a file's transitions, NumPy f32[stop - first, ...], if all is as it was written."""
        try:
            content = read_file(segment.path)
        except OSError as error:
            if error.errno in NO_FILE:
                raise Damaged(f"{segment.path}: missing") from error
            raise cannot_read(segment.path, error) from error
        if self._digest(content) != segment.digest:
            raise Damaged(f"{segment.path}: damaged, or another run's or member's")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: f"{arrays[name].dtype}{list(arrays[name].shape)}" for name in arrays.files}
            for name, field in like._asdict().items():
                wanted = f"{field.dtype}{[segment.stop - segment.first, *field.shape[1:]]}"
                if found.get(name) != wanted:
                    there = found.get(name, "not there")
                    raise UserError(
                        f"{segment.path}: written for another task: {name} is {there}, not {wanted}"
                    )
            return Batch(**arrays)

    def _segments(self) -> list[_Segment]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:  # by no means "none"
            raise cannot_read(self.folder, error) from error
        found = filter(None, (re.fullmatch(r"(\d+)-(\d+)-([0-9a-f]+)\.npz", name) for name in names))
        return [_Segment(self.folder / name[0], int(name[1]), int(name[2]), name[3]) for name in found]

    def _remove(self, segments: Iterable[_Segment]) -> None:
        """Removes these and unfinished files."""
        for path in (*self.folder.glob("*.tmp"), *(segment.path for segment in segments)):
            with writing(path):
                if path.is_dir() and not path.is_symlink():  # somebody's: no file of ours is one
                    set_aside(path)
                else:
                    path.unlink(missing_ok=True)


def rows_since(buffer: ReplayBuffer, first: int) -> Batch:
    """Fetches the transitions with numbers `first` and up, or of these the last that the buffer still holds.

    Only these come from the device, some thousand at a time by one program. NumPy f32[n, ...], oldest first,
    for `ReplayFiles.append`. ValueError if `first` is negative or above what was inserted.
    """
    inserted, capacity = int(buffer.inserted), buffer.capacity
    if not 0 <= first <= inserted:
        raise ValueError(f"first must be between 0 and the {inserted} transitions inserted, not {first}")
    count = min(inserted - first, capacity)
    rows = jax.tree.map(lambda field: np.empty((count, *field.shape[1:]), field.dtype), buffer.data)
    for start in range(0, count, ROWS_PER_FETCH):
        part = _part(buffer.data, (inserted - count + start) % capacity, min(ROWS_PER_FETCH, capacity))
        for to, fetched in zip(rows, jax.device_get(part), strict=True):
            to[start : start + ROWS_PER_FETCH] = fetched[: count - start]
    return rows


@functools.partial(jax.jit, static_argnames="count")
def _part(data: Batch, first: int, count: int) -> Batch:
    """Returns f32[count, ...], the rows from `first` on, around the ring."""
    rows = (first + jnp.arange(count)) % len(data.rewards)
    return jax.tree.map(lambda field: jnp.take(field, rows, axis=0, mode="clip"), data)
