"""Checkpoints of a run: the members' states, the rows of the logs, and the loop's progress.

A member is one seed of the run with one setting of the swept hyperparameters.

checkpoints/STEP/states/            the arrays of all members, stacked, written by orbax; likewise other items
checkpoints/STEP/logs/NAME.csv      the rows of a log up to this step
checkpoints/STEP/checkpoint.json    the run's digest, the progress, the members' names, the shapes of a
                                    member's arrays, and the digest of every file: orbax does not notice a
                                    flipped byte, and silently truncates, pads and converts arrays
checkpoints/NAME.tmp/               a checkpoint that is being written or deleted
checkpoints/damaged-STEP/           a checkpoint that was found damaged; kept for inspection
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from xql_jax.errors import Damaged, UserError
from xql_jax.files import cannot_write, read_record, set_aside, sync, write_record, writing
from xql_jax.training.checkpoint_parts import (
    DamagedCheckpoint,
    UnfitCheckpoint,
    cannot_read,
    check_leaves,
    digests,
    leaves_of,
    quiet_orbax,
    system_error,
)
from xql_jax.types import State

LOG = logging.getLogger(__name__)
KEPT = 3  # checkpoints; the default of every run
MANIFEST = "checkpoint.json"


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop needs, besides the states, to continue a run. Times are in seconds."""

    step: int = 0
    evaluation_due: bool = False  # at `step`: a signal came before or during the evaluation
    update_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    # What each member needs besides its state, such as its divergence; by the member's name.
    members: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    # What the population as a whole needs.
    held: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Checkpoints(contextlib.AbstractContextManager):
    """The last checkpoints of a run, in one folder.

    A background thread writes them, one at a time, while training continues. An error in the thread is raised
    by the next `save`, `wait` or `close`. Only `save` and `resume_last_good` write or rename files.

    Args:
        folder: created by the first `save`; its parent must exist.
        run: the digest of the run's identity; checkpoints of other runs are refused.
        kept: number of checkpoints to keep, the latest ones; 0 keeps all.
        spared: the step of a checkpoint that is kept as well.
    """

    def __init__(self, folder: Path, run: str = "", kept: int = KEPT, spared: int | None = None):
        self._folder, self._run, self._kept, self._spared = folder.absolute(), run, kept, spared
        self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._write_in_flight: concurrent.futures.Future[None] | None = None

    @property
    def steps(self) -> list[int]:
        """The steps of all completely written checkpoints, ascending; damaged ones are included."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            names = []
        except OSError as error:  # must not count as "no checkpoints", or the run would start again at 0
            raise cannot_read(self._folder, error) from error
        return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))

    def save(
        self,
        items: Mapping[str, Mapping[str, State]],
        progress: Progress,
        write_more: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Starts writing the checkpoint of `progress.step`.

        If a checkpoint of that step exists, nothing is written, because it holds the same state.

        Args:
            items: "states" and others, each NumPy arrays of the same shapes by the member's name. Nobody else
                may write to them.
            progress: at the same step.
            write_more: writes further files of the checkpoint. The thread calls it with the checkpoint's
                folder, before the folder gets its final name.
        """
        self.wait()
        if progress.step not in self.steps:
            self._write_in_flight = self._thread.submit(self._write, items, progress, write_more)

    def wait(self) -> None:
        """Waits until no write is in progress.

        Raises:
            UserError: if the last write failed.
        """
        write, self._write_in_flight = self._write_in_flight, None
        if write is not None:
            write.result()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._orbax.close()

    def restore(
        self, like: Mapping[str, State], step: int | None = None, item: str = "states"
    ) -> tuple[dict[str, State], Progress]:
        """Reads an item of the members named in `like` from a checkpoint.

        Args:
            like: by the member's name, arrays of the expected shapes and types, or their `jax.eval_shape`.
            step: of the checkpoint; None for the last one.
        Returns:
            NumPy arrays by the member's name, and the progress of the whole checkpoint.
        Raises:
            DamagedCheckpoint: if a file of the item is missing or has changed.
            UnfitCheckpoint: if it lacks a member, or its arrays differ in name, shape or type from `like`.
            UserError: if there is no such checkpoint, or the system cannot read it at present.
        """
        known = self.steps
        if not known or step not in (None, *known):
            there = f"there are: {', '.join(map(str, known))}" if known else "there is none"
            raise UserError(f"no checkpoint{f' {step}' if step else ''} in {self._folder}; {there}")
        path = self._folder / str(known[-1] if step is None else step)
        manifest = self._manifest(path)
        members = manifest["members"]
        for name, wanted in like.items():
            if name not in members:
                raise UnfitCheckpoint(path, f"it has no member {name}; it has: {', '.join(members)}")
            check_leaves(path, manifest["arrays"].get(item, {}), leaves_of(wanted))
        self._check_files(path, f"{item}/", manifest["files"])
        shape = next(iter(like.values()))
        empty = jax.tree.map(
            lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), (len(members), *leaf.shape)), shape
        )
        try:
            with quiet_orbax():
                stack = self._orbax.restore(path / item, args=ocp.args.StandardRestore(empty))
            progress = Progress(**manifest["progress"])
        except Exception as error:  # the digests were right: a system error, a full device, another version
            if isinstance(error, OSError) or system_error(error):
                raise cannot_read(path / item, error) from error
            message = f"whole, but this version cannot read it: {type(error).__name__}: {error}"
            raise UserError(f"checkpoint {path}: {message[:300]}") from error
        places = {name: members.index(name) for name in like}
        return {
            name: jax.tree.map(lambda leaf, at=at: np.array(leaf[at]), stack) for name, at in places.items()
        }, progress

    def logs(self, step: int) -> dict[str, bytes]:
        """Returns the log files in a checkpoint, by file name. Raises the errors of `restore`."""
        path = self._folder / str(step)
        files = self._check_files(path, "logs/", self._manifest(path)["files"])
        return {Path(name).name: content for name, content in files.items()}

    def leaves(self, step: int) -> dict[str, dict[str, str]]:
        """Returns the types and shapes of a checkpoint's states, by member and then by array name.

        Raises the errors of `restore`.
        """
        manifest = self._manifest(self._folder / str(step))
        return dict.fromkeys(manifest["members"], manifest["arrays"]["states"])

    def resume_last_good(
        self,
        like: Mapping[str, Mapping[str, State]],
        resume: Callable[[dict[str, dict[str, State]], Progress], None],
    ) -> Progress | None:
        """Passes the last undamaged checkpoint to `resume`, and renames later ones, which are damaged.

        Args:
            like: by item, as for `restore`.
            resume: continues from the items and the progress. It raises `Damaged` if files outside the
                checkpoint that belong to it (the replay buffer's) are damaged.
        Returns:
            The progress to continue from; None if there is no checkpoint.
        Raises:
            UserError: if all checkpoints are damaged, or if the last undamaged one cannot be used. An older
                one is not tried in that case. No checkpoint is renamed then.
        """
        damaged: dict[int, Damaged] = {}
        for step in reversed(self._resumable()):
            try:
                read = {item: self.restore(shapes, step, item) for item, shapes in like.items()}
                self.logs(step)
                progress = read["states"][1]
                resume({item: arrays for item, (arrays, _) in read.items()}, progress)
            except Damaged as error:
                damaged[step] = error
                continue
            except UnfitCheckpoint as error:
                raise UserError(f"{error}, {self._ways_out()}") from error
            for later, why in damaged.items():
                aside = set_aside(self._folder / str(later))
                LOG.warning(f"{why}; the checkpoint is now {aside.name}, the run goes on from {step:,}")
            return progress
        if damaged:
            last = next(iter(damaged.values()))
            others = f", nor can the {len(damaged) - 1} before it" if len(damaged) > 1 else ""
            raise UserError(f"{last}{others}, {self._ways_out()}")
        return None

    def _resumable(self) -> list[int]:
        """The steps to resume from; the spared one only if it is among the latest.

        Else damage in all others, which may be that of one file outside them, would cost all that came after.
        """
        steps = self.steps
        latest = steps[-self._kept :]
        return [step for step in steps if step != self._spared or step in latest]

    def _ways_out(self) -> str:
        return (
            "so the run cannot go on; if another version of the program wrote it, use that one; else delete "
            f"{self._folder.parent} or start anew with another --save_dir"
        )

    def _manifest(self, path: Path) -> dict[str, Any]:
        """Returns a checkpoint's checkpoint.json; raises the errors of `restore`."""
        try:
            content = read_record(path / MANIFEST)
        except Damaged as error:
            raise DamagedCheckpoint(path, f"{MANIFEST} is not as it was written") from error
        if not isinstance(content.get("members"), list):
            raise UnfitCheckpoint(path, "written by an earlier version, which kept a folder for each member")
        if content["run"] != self._run:
            raise DamagedCheckpoint(path, f"it is of another run, {content['run']}; this one is {self._run}")
        if str(content["progress"]["step"]) != path.name:
            raise DamagedCheckpoint(path, f"it is of step {content['progress']['step']}")
        return content

    def _check_files(self, path: Path, prefix: str, digests: Mapping[str, str]) -> dict[str, bytes]:
        """Returns the files below a prefix; raises DamagedCheckpoint if one is missing or has changed."""
        found = {}
        for name, expected in digests.items():
            if not name.startswith(prefix):
                continue
            try:
                content = (path / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise DamagedCheckpoint(path, f"{name} is missing") from error
            except OSError as error:  # too many open files, no permission, a failing disk: not damage
                raise cannot_read(path / name, error) from error
            if hashlib.sha256(content).hexdigest() != expected:
                raise DamagedCheckpoint(path, f"{name} is not as it was written")
            found[name] = content if prefix == "logs/" else b""
        return found

    def _write(
        self,
        items: Mapping[str, Mapping[str, State]],
        progress: Progress,
        write_more: Callable[[Path], None],
    ) -> None:
        """Writes a checkpoint, then deletes the oldest beyond `kept`; runs in the background thread.

        The folder gets its final name after all files are on the disk; if anything fails, it is removed. For
        the arguments see `save`.

        Raises:
            UserError: if a file cannot be written.
        """
        path = self._folder / str(progress.step)
        temporary = path.with_name(path.name + ".tmp")
        try:
            with writing(path):
                self._folder.mkdir(exist_ok=True)
                self._remove_leftovers()
                temporary.mkdir()
                with quiet_orbax():
                    for item, trees in items.items():
                        stack = jax.tree.map(lambda *leaves: np.stack(leaves), *trees.values())
                        self._orbax.save(temporary / item, args=ocp.args.StandardSave(stack))
                write_more(temporary)
                content = {
                    "run": self._run,
                    "progress": dataclasses.asdict(progress),
                    "members": list(items["states"]),
                    "arrays": {item: leaves_of(next(iter(of.values()))) for item, of in items.items()},
                    "files": digests(temporary),
                }
                write_record(temporary / MANIFEST, content)
                for part in (*temporary.rglob("*"), temporary):
                    sync(part)
                os.replace(temporary, path)
                sync(self._folder)
                others = [step for step in self.steps if step != self._spared]
                for old in others[: -self._kept or 0]:  # renamed first: a kill leaves no partial one
                    os.replace(self._folder / str(old), self._folder / f"{old}.tmp")
                self._remove_leftovers()
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)  # the disk may be full: free the space
            if isinstance(error, UserError) or not isinstance(error, Exception):
                raise
            raise cannot_write(path, system_error(error) or str(error)[:300]) from error

    def _remove_leftovers(self) -> None:
        for path in self._folder.glob("*.tmp"):
            shutil.rmtree(path, ignore_errors=True)
