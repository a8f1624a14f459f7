"""A replay buffer on the disk, saved incrementally: each checkpoint adds a file with the new transitions.

replay/FIRST-STOP-DIGEST.npz    transitions FIRST, ..., STOP - 1, counted over all ever inserted; the arrays
                                are the fields of a `Batch`
replay/NAME.tmp                 a file that is being written

A checkpoint itself only needs the number of transitions inserted so far. The name of each file contains a
digest of its content and its owner, so a changed file is recognised and never used.
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


class Saves:
    """The steps of the last checkpoints. Their files of transitions are still needed.

    Args:
        kept: the number of checkpoints that are kept; 0: all.
        first: the step of the checkpoint that training begins from.
    """

    def __init__(self, kept: int, first: int = 0):
        self._kept, self._steps = kept, [first]

    @property
    def last(self) -> int:
        return self._steps[-1]

    def add(self, step: int) -> int:
        """Adds a checkpoint; returns the step of the oldest whose transitions are needed, 0 if not known.

        After a resumption there can be checkpoints that are not known here.
        """
        # One more than the number to keep, because the newest is written before the oldest is removed.
        self._steps = [*self._steps, step][-self._kept - 1 if self._kept else 0 :]
        return self._steps[0] if 0 < self._kept < len(self._steps) else 0


@dataclasses.dataclass(frozen=True)
class ReplayFiles:
    """The files of one replay buffer, in one folder.

    It keeps no state besides the files, and can be used from any thread, one at a time. If the process is
    killed at any point, the data stay consistent if the order is: `append`, then write the checkpoint that
    needs these transitions, then `prune`.
    """

    folder: Path
    owner: str = ""  # the digest of the run's identity, and the member's name
    drops_damaged: bool = False  # `load` replaces damaged transitions instead of raising

    def of(self, member: str) -> "ReplayFiles":
        """Returns the files of one member (seed and setting) of the run, which are in a subfolder."""
        return dataclasses.replace(self, folder=self.folder / member, owner=f"{self.owner} {member}")

    def append(self, inserted: int, rows: Batch) -> None:
        """Writes the latest transitions; they are on the disk when this returns.

        Files with transitions of the same or later numbers are removed first, because a run that was resumed
        from an earlier checkpoint collects different transitions.

        Args:
            inserted: number of transitions ever inserted, these included.
            rows: NumPy f32[n, ...], the last n of them; nothing is written if n is 0.
        Raises:
            UserError: if they cannot be written.
        """
        count = len(rows.rewards)
        self.truncate(inserted - count)
        if count == 0:
            return
        self._write(inserted, rows)

    def prune(self, inserted: int, capacity: int) -> None:
        """Removes the files that no checkpoint needs.

        Args:
            inserted: transitions inserted up to the oldest checkpoint that is kept.
            capacity: of the buffer.
        """
        self._remove(segment for segment in self._segments() if segment.stop <= inserted - capacity)

    def truncate(self, inserted: int) -> None:
        """Removes files written after the checkpoint with `inserted` transitions, and unfinished files."""
        self._remove(segment for segment in self._segments() if segment.stop > inserted)

    def load(self, inserted: int, like: ReplayBuffer) -> ReplayBuffer:
        """Returns the buffer, bit for bit as it was after `inserted` transitions had been inserted.

        Args:
            inserted: the number passed to an earlier `append`, or 0.
            like: a buffer of the same shapes, or its `jax.eval_shape`; the result is placed on the same
                devices.
        Raises:
            Damaged: if a file is missing or changed; with `drops_damaged`, only if all of them are.
            UserError: if the transitions have other shapes, or the system cannot read them at present.
        """
        capacity = like.capacity
        ring = jax.tree.map(lambda field: np.zeros(field.shape, field.dtype), like.data)
        segments = {segment.stop: segment for segment in self._segments()}
        lost: dict[range, Damaged] = {}
        needed, stop = max(0, inserted - capacity), inserted
        while stop > needed:  # from the newest file to the oldest; each ends where the next one begins
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
        # Copies, because `device_put` may share NumPy's memory, which must not be donated.
        data, count = jax.tree.map(
            lambda field, wanted: jnp.copy(jax.device_put(field, wanted.sharding)),
            (ring, np.int32(inserted)),
            (like.data, like.inserted),
        )
        return ReplayBuffer(data, count)

    def read(self, stop: int | None, like: Batch) -> tuple[int, Batch]:
        """Returns the longest sequence of transitions on the disk, without a gap, that ends before `stop`.

        Args:
            stop: a transition's number; None for all transitions.
            like: arrays, or their shapes, of the expected types and widths.
        Returns:
            The number of the first transition, and NumPy f32[n, ...], oldest first.
        Raises:
            Damaged: if a file has changed.
            UserError: if there are no transitions, or not those up to `stop`; it names those that exist.
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
        """Replaces lost transitions by copies of undamaged ones, and logs a warning.

        The ring buffer keeps its order and numbering, so later insertions are unaffected. The copies are
        spread evenly over the undamaged transitions, whose probability of being drawn rises until the copies
        are overwritten. Damaged files are renamed, and new files with the copies are written in their place.

        Args:
            ring: the buffer's arrays, which are changed.
            held: the numbers of all transitions that the buffer should hold.
            lost: for each lost range of them, the error.
            segments: the files by the number at which they stop.
        """
        gone = [number for numbers in lost for number in numbers]
        whole = np.setdiff1d(np.array(held), gone)
        if len(whole) == 0:
            raise Damaged(f"{next(iter(lost.values()))}; no file of the buffer is undamaged")
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
            f"{'; '.join(map(str, lost.values()))}): copies of others replace them until they are overwritten"
        )

    def _digest(self, content: bytes | memoryview) -> str:
        digest = hashlib.sha256(f"{self.owner}\n".encode())
        digest.update(content)
        return digest.hexdigest()[:32]

    def _read(self, segment: _Segment, like: Batch) -> Batch:
        """Returns a file's transitions, NumPy f32[stop - first, ...]; checks its digest and shapes."""
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
        except OSError as error:  # must not count as "no files"
            raise cannot_read(self.folder, error) from error
        found = filter(None, (re.fullmatch(r"(\d+)-(\d+)-([0-9a-f]+)\.npz", name) for name in names))
        return [_Segment(self.folder / name[0], int(name[1]), int(name[2]), name[3]) for name in found]

    def _remove(self, segments: Iterable[_Segment]) -> None:
        """Removes the files of these segments, and unfinished files."""
        for path in (*self.folder.glob("*.tmp"), *(segment.path for segment in segments)):
            with writing(path):
                if path.is_dir() and not path.is_symlink():  # a folder, which this program never makes
                    set_aside(path)
                else:
                    path.unlink(missing_ok=True)


def rows_since(buffer: ReplayBuffer, first: int) -> Batch:
    """Fetches the transitions numbered `first` and later from the device, as far as the buffer holds them.

    Only these are transferred, ROWS_PER_FETCH at a time, all by the same compiled program.

    Returns:
        NumPy f32[n, ...], oldest first, for `ReplayFiles.append`.
    Raises:
        ValueError: if `first` is negative or above the number of transitions inserted.
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
    """Returns f32[count, ...], the rows from `first` on; after the ring buffer's last row comes its first."""
    rows = (first + jnp.arange(count)) % len(data.rewards)
    return jax.tree.map(lambda field: jnp.take(field, rows, axis=0, mode="clip"), data)
