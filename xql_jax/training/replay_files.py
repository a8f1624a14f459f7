"""A replay buffer on the disk, saved incrementally: each checkpoint adds a file with the new transitions.

replay/FIRST-STOP-DIGEST.npz    transitions FIRST, ..., STOP - 1, counted over all ever inserted. Before them
                                there can be earlier ones that have changed since the file before
replay/NAME.tmp                 a file that is being written

A checkpoint itself only needs the number of transitions inserted so far. A file's name has a digest of its
content and its owner, so a changed file is recognised and never used.
"""

import dataclasses
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from xql_jax.data.replay import ReplayBuffer
from xql_jax.errors import Damaged, UserError
from xql_jax.files import read_whole, write_atomically, writing
from xql_jax.training.checkpoints import as_npz
from xql_jax.types import Batch


class _Segment(NamedTuple):
    first: int
    stop: int
    digest: str
    path: Path


@dataclasses.dataclass(frozen=True)
class ReplayFiles:
    """The files of one replay buffer, in one folder.

    If the process is killed at any point, the data stay consistent if the order is: `append`, then write the
    checkpoint that needs these transitions, then `prune`.
    """

    folder: Path
    owner: str = ""  # the digest of the run's identity, and the member's name

    def of(self, member: str) -> "ReplayFiles":
        return ReplayFiles(self.folder / member, f"{self.owner} {member}")

    def append(self, inserted: int, rows: Batch, saved: int = 0) -> None:
        """Writes the latest transitions, NumPy f32[n, ...] of the `inserted` ever; then they are on the disk.

        Files of transitions with the same or later numbers are removed first: a run that was resumed from an
        earlier checkpoint collects other transitions. `saved` is `inserted` of the call before: rows before
        it replace those in older files, and if there are none after it, nothing is written.
        """
        first = max(saved, inserted - len(rows.rewards))
        self._remove(lambda segment: segment.stop > first)
        if first == inserted:
            return
        content = as_npz(rows._asdict())
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"{first:010d}-{inserted:010d}-{self._digest(content)}.npz", content)

    def prune(self, needed: int) -> None:
        self._remove(lambda segment: segment.stop <= needed)

    def load(self, inserted: int, like: ReplayBuffer) -> ReplayBuffer:
        """Returns the buffer as it was after an `append` with that `inserted`; Damaged if a file is."""
        capacity = len(like.data.rewards)
        ring = jax.tree.map(lambda field: np.zeros(field.shape, field.dtype), like.data)
        needed = max(0, inserted - capacity)  # the first transition that the ring holds
        chain = [segment for segment in self._chain(inserted) if segment.stop > needed]
        reached = chain[-1].first if chain else inserted
        if reached > needed:
            raise Damaged(f"{self.folder}: the file of the transitions up to {reached:,} is missing")
        self._fill(ring, chain, needed)
        return ReplayBuffer(ring, np.int32(inserted))  # type: ignore[arg-type]

    def read(self, stop: int | None, like: Batch) -> tuple[int, Batch]:
        """Returns the transitions up to number `stop` (None: all) that follow one another on the disk.

        They are NumPy f32[n, ...], of the types and widths of `like`; before them, the first one's number.
        """
        last = max((segment.stop for segment in self._segments()), default=0)
        chain = self._chain(last)
        first = chain[-1].first if chain else 0
        end = last if stop is None else stop
        if not first < end <= last:
            raise UserError(
                f"{self.folder}: has transitions {first:,} to {last:,} of the run, not those up to {end:,}"
            )
        rows = jax.tree.map(lambda field: np.zeros((last - first, *field.shape[1:]), field.dtype), like)
        self._fill(rows, chain, first, first)
        return first, jax.tree.map(lambda field: field[: end - first], rows)

    def _fill(self, rows: Batch, chain: Sequence[_Segment], needed: int, start: int = 0) -> None:
        """Writes the transitions of the files from number `needed` on into a ring that began at `start`."""
        for segment in reversed(chain):  # from the oldest file to the newest, which can change earlier rows
            stored = self._read(segment, rows)
            numbers = np.arange(max(needed, segment.stop - len(stored.rewards)), segment.stop)
            for place, field in zip(rows, stored, strict=True):
                place[(numbers - start) % len(place)] = field[len(field) - len(numbers) :]

    def _chain(self, stop: int) -> list[_Segment]:
        """Returns the files of the transitions up to `stop`, newest first, as far as none is missing."""
        by_stop = {segment.stop: segment for segment in self._segments()}
        chain, end = [], stop
        while end in by_stop:
            chain.append(by_stop[end])
            end = by_stop[end].first
        return chain

    def _digest(self, content: bytes | memoryview) -> str:
        digest = hashlib.sha256(f"{self.owner}\n".encode())
        digest.update(content)
        return digest.hexdigest()[:32]

    def _read(self, segment: _Segment, like: Batch) -> Batch:
        content = read_whole(segment.path)
        if self._digest(content) != segment.digest:
            raise Damaged(f"{segment.path}: damaged, or another run's or member's")
        with np.load(io.BytesIO(content)) as arrays:
            return type(like)(**arrays)

    def _segments(self) -> list[_Segment]:
        paths = self.folder.glob("*.npz")
        matches = ((re.fullmatch(r"(\d+)-(\d+)-([0-9a-f]+)\.npz", path.name), path) for path in paths)
        return [_Segment(int(name[1]), int(name[2]), name[3], path) for name, path in matches if name]

    def _remove(self, is_old: Callable[[_Segment], bool]) -> None:
        with writing(self.folder):
            for path in self.folder.glob("*.tmp"):
                path.unlink()
            for segment in filter(is_old, self._segments()):
                segment.path.unlink()


def rows_since(buffers: ReplayBuffer, first: int, place: int) -> Batch:
    """Returns what a member's buffer, of m stacked ones at `place`, still has from number `first` on."""
    inserted, capacity = int(buffers.inserted[place]), buffers.data.rewards.shape[1]
    rows = np.arange(max(first, inserted - capacity), inserted) % capacity  # a ring
    return jax.device_get(jax.tree.map(lambda field: field[place, rows], buffers.data))
