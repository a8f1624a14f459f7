"""Checkpoints of a run: the members' states, the rows of the logs, and the loop's progress.

checkpoints/STEP/states.npz         the arrays of all members, stacked; likewise other items
checkpoints/STEP/logs/NAME.csv      the rows of a log up to this step
checkpoints/STEP/checkpoint.json    the run's digest, the progress, the members' names, and the digest of
                                    every file
checkpoints/NAME.tmp/               a checkpoint that is being written or deleted
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from xql_jax.errors import Damaged, UserError
from xql_jax.files import read_record, read_whole, sync, write_record, writing
from xql_jax.types import Json, State

LOG = logging.getLogger(__name__)
Items = Mapping[str, State]  # "states" and others: arrays of all members, stacked
T = TypeVar("T")
KEPT = 3  # checkpoints; the default of every run
MANIFEST = "checkpoint.json"


class TrainingFiles:
    def __init__(self, folder: Path, run_id: str = ""):
        self.folder = folder
        self.run_id = run_id  # the digest of the run's identity; files of other runs are refused by it
        self.config = folder / "config.json"
        self.checkpoints = folder / "checkpoints"
        self.metrics = folder / "metrics.csv"
        self.evaluations = folder / "evaluations.csv"
        self.episodes = folder / "episodes.csv"  # of the evaluations
        self.summary = folder / "summary.json"
        self.preprocessing = folder / "preprocessing.json"
        self.replay = folder / "replay"  # files of the replay buffers, one folder per member
        self.events = folder / "tb"  # TensorBoard's event files

    def of(self, quantity: str) -> Path:
        """Returns the file of what a trainer measures."""
        return self.folder / f"{quantity}.csv"


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop needs, besides the states, to continue a run."""

    step: int = 0
    # The earlier step whose evaluation in the background a stop cut short: its checkpoint is needed, too.
    evaluation_due: int = 0
    update_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    # What each member needs besides its state, such as its divergence; by the member's name.
    members: Mapping[str, Json] = dataclasses.field(default_factory=dict)


class Snapshot(NamedTuple):
    """What a checkpoint is written from, also at a later step."""

    items: Items
    progress: Progress
    write_more: Callable[[Path], None] = lambda folder: None  # in the thread; its further files


class Checkpoints(contextlib.AbstractContextManager):
    """The last checkpoints of a run, in one folder: the latest `kept` (0: all), what they need, and `spared`.

    A background thread writes them, one at a time, while training continues. An error in the thread is raised
    by the next `save` or `wait`, or at the end. Checkpoints of other runs, by the digest `run`, are refused.
    """

    def __init__(self, folder: Path, run: str = "", kept: int = KEPT, spared: int | None = None):
        self._folder, self._run, self._kept, self._spared = folder.absolute(), run, kept, spared
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._write_in_flight: concurrent.futures.Future[None] | None = None

    @property
    def steps(self) -> list[int]:
        """Ascending; of complete checkpoints."""
        names = os.listdir(self._folder) if self._folder.exists() else []  # `glob` would hide that it fails
        return sorted(int(name) for name in names if name.isdigit())

    def save(self, snapshot: Snapshot) -> None:
        """Starts writing the checkpoint of the snapshot's step, unless it exists: it holds the same state."""
        self.wait()
        if snapshot.progress.step not in self.steps:
            self._write_in_flight = self._thread.submit(self._write, *snapshot)

    def wait(self) -> None:
        """Waits until no write is in progress; UserError if the last one failed."""
        write, self._write_in_flight = self._write_in_flight, None
        if write is not None:
            write.result()

    def __exit__(self, *exception: object) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def read(self, step: int, like: Items, names: Sequence[str]) -> tuple[Items, Progress]:
        """Returns the items of a checkpoint that are in `like`, without those it has not, and its progress.

        Args:
            like: what one member has of each item, or its `jax.eval_shape`.
            names: of the members whose arrays are stacked, as NumPy's.
        Raises:
            Damaged: if a file of the items is missing or has changed.
            UserError: if there is no such checkpoint, or its arrays are not as those in `like`.
        """
        if step not in self.steps:
            there = ", ".join(map(str, self.steps)) or "none"
            raise UserError(f"no checkpoint {step} in {self._folder}; there are: {there}")
        manifest, items = self._manifest(step), {}
        for item in (name for name in like if f"{name}.npz" in manifest["files"]):
            wanted, structure = jax.tree_util.tree_flatten_with_path(like[item])
            specs = {jax.tree_util.keystr(at): f"{leaf.dtype}{list(leaf.shape)}" for at, leaf in wanted}
            with np.load(io.BytesIO(self._read(step, f"{item}.npz", manifest))) as file:
                arrays = dict(file)
            shapes = {name: f"{array.dtype}{list(array.shape[1:])}" for name, array in arrays.items()}
            for name in (*specs, *shapes):
                if shapes.get(name) != specs.get(name):
                    raise UserError(
                        f"checkpoint {self._folder / str(step)}: written by another version of the program: "
                        f"{name} is {shapes.get(name, 'not there')}, not {specs.get(name, 'wanted')}; use "
                        "that version, or start anew with another --save_dir"
                    )
            places = [manifest["members"].index(name) for name in names]
            items[item] = jax.tree.unflatten(structure, [arrays[spec][places] for spec in specs])
        progress = manifest["progress"]
        return items, Progress(**{name: progress[name] for name in Progress.__dataclass_fields__})

    def resume_last_good(
        self, like: Items, names: Sequence[str], resume: Callable[[Items, Progress], T]
    ) -> tuple[T, dict[str, bytes]] | None:
        """Passes the last undamaged checkpoint to `resume`, and deletes later ones; None if there is none.

        Returns what `resume` does, and the checkpoint's logs by file name. Raises UserError, without deleting
        any, if all are damaged, or the last undamaged one cannot be used. `like` and `names` are as for
        `read`. `resume` raises `Damaged` if other files are that the checkpoint needs: the replay buffer's,
        or those of an earlier checkpoint.
        """
        damaged: dict[int, Damaged] = {}
        for step in reversed(self.steps):
            try:
                manifest = self._manifest(step)
                of_logs = [name for name in manifest["files"] if name.startswith("logs/")]
                logs = {Path(name).name: self._read(step, name, manifest) for name in of_logs}
                resumed = resume(*self.read(step, like, names))
            except Damaged as error:
                damaged[step] = error
                continue
            for later, reason in damaged.items():
                self._delete(later)
                LOG.warning(f"{reason}; it is deleted, and the run goes on from {step:,}")
            return resumed, logs
        if damaged:
            raise UserError(
                f"{damaged[max(damaged)]}; no checkpoint is whole, so the run cannot go on: delete "
                f"{self._folder.parent} or start anew with another --save_dir"
            )
        return None

    def _manifest(self, step: int) -> Json:
        path = self._folder / str(step)
        content = read_record(path / MANIFEST)
        if content["run"] != self._run:
            raise Damaged(f"checkpoint {path}: of another run, {content['run']}; this one is {self._run}")
        return content

    def _read(self, step: int, name: str, manifest: Json) -> bytes:
        """Returns a file of a checkpoint; Damaged if it is missing or has changed."""
        path = self._folder / str(step)
        content = read_whole(path / name)
        if _digest(content) != manifest["files"][name]:
            raise Damaged(f"checkpoint {path}: damaged: {name} is not as it was written")
        return content

    def _write(self, items: Items, progress: Progress, write_more: Callable[[Path], None]) -> None:
        """In the thread; the folder gets its final name after all files are on the disk."""
        path = self._folder / str(progress.step)
        temporary = path.with_name(path.name + ".tmp")
        try:
            with writing(path):
                self._folder.mkdir(exist_ok=True)
                self._remove_leftovers()
                temporary.mkdir()
                for item, stack in jax.device_get(items).items():
                    leaves = jax.tree_util.tree_flatten_with_path(stack)[0]
                    arrays = {jax.tree_util.keystr(at): leaf for at, leaf in leaves}
                    (temporary / f"{item}.npz").write_bytes(as_npz(arrays))
                write_more(temporary)
                files = [part for part in sorted(temporary.rglob("*")) if part.is_file()]
                content = {
                    "run": self._run,
                    "progress": dataclasses.asdict(progress),
                    "members": list(progress.members),
                    "files": {
                        file.relative_to(temporary).as_posix(): _digest(file.read_bytes()) for file in files
                    },
                }
                write_record(temporary / MANIFEST, content)
                for part in (*temporary.rglob("*"), temporary):
                    sync(part)
                os.replace(temporary, path)
                sync(self._folder)
                self._delete_old()
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # the disk may be full: free the space
            raise

    def _delete_old(self) -> None:
        if not self._kept:
            return
        others = [step for step in self.steps if step != self._spared]
        needed = set(others[-self._kept :])
        for step in others[-self._kept :]:
            with contextlib.suppress(Damaged):  # then it needs nothing
                needed.add(self._manifest(step)["progress"].get("evaluation_due"))
        for old in set(others) - needed:
            self._delete(old)

    def _delete(self, step: int) -> None:
        with writing(self._folder):
            os.replace(self._folder / str(step), self._folder / f"{step}.tmp")  # a kill leaves no part
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for path in self._folder.glob("*.tmp"):
            shutil.rmtree(path, ignore_errors=True)


def as_npz(arrays: Mapping[str, np.ndarray]) -> memoryview:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getbuffer()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
