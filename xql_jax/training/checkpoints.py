"""Checkpoints of a run: each member's state, the rows of its logs, and what the loop must know to go on.

checkpoints/STEP/members/NAME/      the arrays of one member, by orbax
checkpoints/STEP/logs/NAME.csv      the rows until then
checkpoints/STEP/checkpoint.json    whose it is, the progress, the arrays' names and shapes by member, and
                                    every file's digest
checkpoints/NAME.tmp/               in the making, or being deleted
checkpoints/damaged-STEP/           found unfit, and kept for who wants to look
"""

import concurrent.futures
import contextlib
import dataclasses
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from xql_jax.errors import Damaged, UserError
from xql_jax.files import cannot_write, set_aside, sync, writing
from xql_jax.training.manifests import (
    UnfitCheckpoint,
    cannot_read,
    cannot_understand,
    check_files,
    check_leaves,
    leaves_of,
    read_checked,
    read_manifest,
    system_error,
    write_manifest,
)
from xql_jax.types import State

LOG = logging.getLogger(__name__)
KEPT = 3  # unless a run is told otherwise


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop must know to go on, beside the states. Times in seconds."""

    step: int = 0
    evaluation_due: bool = False  # at `step`: a signal came before it or in its midst
    update_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    members: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)  # theirs, by name
    held: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # what else the trainee must know


class Checkpoints(contextlib.AbstractContextManager):
    """The last checkpoints of a run, in one folder.

    A thread of its own writes them, one at a time, while the training goes on; what fails there is raised by
    the next `save`, `wait` or `close`. Nothing is written or renamed but by `save` and `resume_last_good`.

    orbax's CheckpointManager is no faster (56 ms without digests, this 57 ms with them, for XQL's 3.9 MB) and
    gives a checkpoint its name before a digest of it could be written.

    Args:
        folder: made by the first `save`, its parent must be there.
        run: the digest of the run's identity; other runs' checkpoints are refused.
        kept: how many of the last stay when another is written; 0: all.
    """

    def __init__(self, folder: Path, run: str = "", kept: int = KEPT):
        self._folder, self._run, self._kept = folder.absolute(), run, kept
        self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._write_in_flight: concurrent.futures.Future[None] | None = None

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints, fit or not, that were written to their end; ascending."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            names = []
        except OSError as error:  # by no means "none": a run would begin anew
            raise cannot_read(self._folder, error) from error
        return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))

    def save(
        self,
        states: Mapping[str, State],
        progress: Progress,
        write_more: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Begins to write the checkpoint of `progress.step`, unless there is one: it is the same state.

        Args:
            states: by the member's name, NumPy arrays that nobody else writes to.
            progress: of the same step.
            write_more: called in the thread, with the checkpoint's folder, before it takes its name: what it
                writes there is part of the checkpoint.
        """
        self.wait()
        if progress.step not in self.steps:
            self._write_in_flight = self._thread.submit(self._write, states, progress, write_more)

    def wait(self) -> None:
        """Returns when no write is in flight.

        Raises:
            UserError: if the last one failed.
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
        self, like: Mapping[str, State], step: int | None = None
    ) -> tuple[dict[str, State], Progress]:
        """Returns members of a checkpoint, the last if no step is given; the others are not read.

        Args:
            like: by the member's name, arrays of the shapes that are wanted, or their `jax.eval_shape`.
        Returns:
            NumPy arrays by the member's name, and the progress of the whole checkpoint.
        Raises:
            DamagedCheckpoint: if a byte of these members changed or a file of theirs is missing.
            UnfitCheckpoint: if it has no such member, or its arrays are others than those of `like`.
            UserError: if there is no such checkpoint, or it cannot be read here and now, whole as it may be.
        """
        known = self.steps
        if not known or step not in (None, *known):
            there = f"there are: {', '.join(map(str, known))}" if known else "there is none"
            raise UserError(f"no checkpoint{f' {step}' if step else ''} in {self._folder}; {there}")
        path = self._folder / str(known[-1] if step is None else step)
        manifest = read_manifest(path, self._run)
        states = {}
        for name, wanted in like.items():
            if name not in manifest["members"]:
                there = ", ".join(manifest["members"])
                raise UnfitCheckpoint(path, f"it has no member {name}; it has: {there}")
            check_leaves(path, manifest["members"][name], leaves_of(wanted))
            check_files(path, f"members/{name}/", manifest["files"])
            states[name] = self._restore_member(path / "members" / name, wanted)
        try:
            return states, Progress(**manifest["progress"])
        except TypeError as error:  # a field more
            raise cannot_understand(path, error) from error

    def logs(self, step: int) -> dict[str, bytes]:
        """Returns the rows that a checkpoint has, by their file's name; raises as `restore`."""
        path = self._folder / str(step)
        digests = read_manifest(path, self._run)["files"]
        names = [name for name in digests if name.startswith("logs/")]
        return {Path(name).name: read_checked(path, name, digests[name]) for name in names}

    def _restore_member(self, path: Path, like: State) -> State:
        arrays = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), like)
        try:
            return self._orbax.restore(path, args=ocp.args.StandardRestore(arrays))
        except Exception as error:  # every byte is as it was: the system, a full device, another version's
            if isinstance(error, OSError) or system_error(error):
                raise cannot_read(path, error) from error
            raise cannot_understand(path.parents[1], error) from error

    def resume_last_good(
        self, like: Mapping[str, State], resume: Callable[[dict[str, State], Progress], None]
    ) -> Progress | None:
        """Gives the last checkpoint to `resume`, and sets aside later ones that are damaged.

        Args:
            resume: raises `Damaged` if what belongs to the checkpoint and lies elsewhere is damaged.
        Returns:
            The progress to go on from; None if there never was a checkpoint.
        Raises:
            UserError: if all are damaged, or the last that is not cannot be gone on with: that one is never
                passed over for an older one. Then all stay where they are.
        """
        damaged: dict[int, Damaged] = {}
        for step in reversed(self.steps):
            try:
                states, progress = self.restore(like, step)
                self.logs(step)
                resume(states, progress)
            except Damaged as error:
                damaged[step] = error
                continue
            except UnfitCheckpoint as error:
                raise UserError(f"{error}, {self._ways_out()}") from error
            for later, why in damaged.items():
                aside = self._set_aside(later)
                LOG.warning(f"{why}; the checkpoint is now {aside.name}, the run goes on from {step:,}")
            return progress
        if damaged:
            last = next(iter(damaged.values()))
            others = f", nor can the {len(damaged) - 1} before it" if len(damaged) > 1 else ""
            raise UserError(f"{last}{others}, {self._ways_out()}")
        return None

    def _ways_out(self) -> str:
        return (
            "so the run cannot go on; if another version of the program wrote it, take that; else delete "
            f"{self._folder.parent} or start anew with another --save_dir"
        )

    def _set_aside(self, step: int) -> Path:
        return set_aside(self._folder / str(step))

    def _write(
        self, states: Mapping[str, State], progress: Progress, write_more: Callable[[Path], None]
    ) -> None:
        """In the thread. The folder takes its name when all of it, and the rest, is on the disk."""
        path = self._folder / str(progress.step)
        temporary = path.with_name(path.name + ".tmp")
        try:
            with writing(path):
                self._folder.mkdir(exist_ok=True)
                self._remove_leftovers()
                temporary.mkdir()
                with _silent_orbax():
                    for name, state in states.items():
                        self._orbax.save(temporary / "members" / name, args=ocp.args.StandardSave(state))
                write_more(temporary)
                write_manifest(temporary, self._run, dataclasses.asdict(progress), states)
                for part in (*temporary.rglob("*"), temporary):
                    sync(part)
                os.replace(temporary, path)
                sync(self._folder)
                for old in self.steps[
                    : -self._kept or 0
                ]:  # a kill in the midst leaves no half of a checkpoint
                    os.replace(self._folder / str(old), self._folder / f"{old}.tmp")
                self._remove_leftovers()
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)  # it takes the space that is lacking
            if isinstance(error, UserError):
                raise
            raise cannot_write(path, system_error(error) or str(error)[:300]) from error

    def _remove_leftovers(self) -> None:
        for path in self._folder.glob("*.tmp"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:  # nobody's of ours
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _silent_orbax() -> Iterator[None]:
    """Keeps off the screen what is raised here anyway, as one error.

    orbax logs an error with its traceback in each thread that it passes. And after the first, tensorstore's
    other writes report to an event loop that is closed, and asyncio and Python tell of tasks that nobody
    awaited, or of a loop that could not be opened; as these may come any time later, they stay silenced.
    """
    loggers, hook = (logging.getLogger("absl"), logging.getLogger("asyncio")), sys.unraisablehook

    def is_of_others(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname + record.getMessage()

    def tell_of_others(unraisable: Any) -> None:
        is_loops = str(getattr(unraisable.object, "__module__", "")).startswith("asyncio")
        if str(unraisable.exc_value) != "Event loop is closed" and not is_loops:
            hook(unraisable)

    for logger in loggers:
        logger.addFilter(is_of_others)
    sys.unraisablehook = tell_of_others
    try:
        yield
    except Exception:
        warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)
        raise
    sys.unraisablehook = hook
    for logger in loggers:
        logger.removeFilter(is_of_others)
