"""Checkpoints of a run: the population's states and what the loop must know to go on.

checkpoints/STEP/states/            the arrays, by orbax
checkpoints/STEP/checkpoint.json    the loop's progress, the arrays' names and shapes, every file's digest
checkpoints/NAME.tmp/               in the making, or being deleted
checkpoints/damaged-STEP/           found unfit, and kept for who wants to look
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from xql_jax.errors import UserError
from xql_jax.logs.files import cannot_write, sync, writing
from xql_jax.types import State

KEPT = 3
MANIFEST = "checkpoint.json"


@dataclasses.dataclass(frozen=True)
class Progress:
    """What the loop must know to go on, beside the states. Times in seconds."""

    step: int = 0
    evaluation_due: bool = False  # at `step`: a signal came before it or in its midst
    diverged: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    update_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    held: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # what else the trainee must know


class Damaged(UserError):
    """Part of a checkpoint is not there or not as it was written, and never will be."""


class UnfitCheckpoint(UserError):
    """A checkpoint that is damaged, or whole and of another program's states; `reason` says how."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"checkpoint {path}: {reason}")
        self.reason = reason


class DamagedCheckpoint(UnfitCheckpoint, Damaged):
    """One of which a file is not there or not as it was written: it will never be read again."""

    def __init__(self, path: Path, reason: str):
        super().__init__(path, f"damaged: {reason}")


class Checkpoints:
    """The last three checkpoints of a run, in one folder.

    A thread of its own writes them, one at a time, while the training goes on; what fails there is raised by
    the next `save`, `wait` or `close`. Nothing is written or renamed but by `save` and `resume_last_good`.
    """

    def __init__(self, folder: Path):
        self._folder = folder.absolute()
        self._orbax = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._write_in_flight: concurrent.futures.Future[None] | None = None

    @property
    def steps(self) -> list[int]:
        """Of the checkpoints, fit or not, that were written to their end; ascending."""
        try:
            names = os.listdir(self._folder)
        except (FileNotFoundError, NotADirectoryError):
            names = []
        except OSError as error:  # by no means "none": a run would begin anew
            raise _cannot_read(self._folder, error) from error
        return sorted(int(name) for name in names if re.fullmatch("[0-9]+", name))

    @property
    def latest_step(self) -> int | None:
        return max(self.steps, default=None)

    def save(
        self, states: State, progress: Progress, write_the_rest: Callable[[], None] = lambda: None
    ) -> None:
        """Begins to write the checkpoint of `progress.step`, unless there is one: it is the same state.

        Args:
            states: copied before this returns, so that the next update may consume them.
            progress: of the same step.
            write_the_rest: called in the thread before the checkpoint takes its name.
        """
        self.wait()
        if progress.step not in self.steps:
            # A copy, no view: the next update is given the states' own memory to write to.
            copies = jax.tree.map(np.array, jax.device_get(states))
            self._write_in_flight = self._thread.submit(self._write, copies, progress, write_the_rest)

    def wait(self) -> None:
        """Returns when no write is in flight.

        Raises:
            UserError: if the last one failed.
        """
        write, self._write_in_flight = self._write_in_flight, None
        if write is not None:
            write.result()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._orbax.close()

    def restore(self, like: State, step: int | None = None) -> tuple[State, Progress]:
        """Returns a checkpoint, the last if no step is given, its arrays placed as those of `like`.

        Raises:
            DamagedCheckpoint: if a byte of it changed or a file of it is missing.
            UnfitCheckpoint: if its arrays are others than those of `like`.
            UserError: if there is no such checkpoint, or it cannot be read here and now, whole as it may be.
        """
        known = self.steps
        if not known or step not in (None, *known):
            there = f"there are: {', '.join(map(str, known))}" if known else "there is none"
            raise UserError(f"no checkpoint{f' {step}' if step else ''} in {self._folder}; {there}")
        path = self._folder / str(known[-1] if step is None else step)
        manifest = _read_manifest(path)
        _check_leaves(path, manifest["leaves"], _leaves(like))
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            states = self._orbax.restore(path / "states", args=ocp.args.StandardRestore(abstract))
            return states, Progress(**manifest["progress"])
        except Exception as error:  # every byte is as it was: the system, a full device, another version's
            if isinstance(error, OSError) or _system_error(error):
                raise _cannot_read(path, error) from error
            message = f"whole, but this version cannot read it: {type(error).__name__}: {error}"
            raise UserError(f"checkpoint {path}: {message[:300]}") from error

    def resume_last_good(self, like: State, resume: Callable[[State, Progress], None]) -> Progress | None:
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
                resume(states, progress)
            except Damaged as error:
                damaged[step] = error
                continue
            except UnfitCheckpoint as error:
                raise UserError(f"{error}, {self._ways_out()}") from error
            for later, why in damaged.items():
                aside = self._set_aside(later)
                print(f"warning: {why}; the checkpoint is now {aside.name}, the run goes on from {step:,}")
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
        path, aside = self._folder / str(step), self._folder / f"damaged-{step}"
        with writing(aside):
            shutil.rmtree(aside, ignore_errors=True)  # of the same step, from earlier
            os.replace(path, aside)
            sync(self._folder)
        return aside

    def _write(self, states: State, progress: Progress, write_the_rest: Callable[[], None]) -> None:
        """In the thread. The folder takes its name when all of it, and the rest, is on the disk."""
        path = self._folder / str(progress.step)
        temporary = path.with_name(path.name + ".tmp")
        try:
            with writing(path):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._remove_leftovers()
                temporary.mkdir()
                with _silent_orbax():
                    self._orbax.save(temporary / "states", args=ocp.args.StandardSave(states))
                _write_manifest(temporary, dataclasses.asdict(progress), _leaves(states))
                for part in (*temporary.rglob("*"), temporary):
                    sync(part)
                write_the_rest()
                os.replace(temporary, path)
                sync(self._folder)
                for old in self.steps[:-KEPT]:  # a kill in the midst leaves no half of a checkpoint
                    os.replace(self._folder / str(old), self._folder / f"{old}.tmp")
                self._remove_leftovers()
        except Exception as error:
            shutil.rmtree(temporary, ignore_errors=True)  # it takes the space that is lacking
            if isinstance(error, UserError):
                raise
            raise cannot_write(path, _system_error(error) or str(error)[:300]) from error

    def _remove_leftovers(self) -> None:
        for path in self._folder.glob("*.tmp"):
            shutil.rmtree(path, ignore_errors=True)


def _system_error(error: Exception) -> str | None:
    """The system's words that tensorstore's errors, which are ValueErrors, quote; None if they quote none."""
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(number[1])) if number else None


def _cannot_read(path: Path, error: Exception) -> UserError:
    reason = _system_error(error) or getattr(error, "strerror", None) or str(error)[:300]
    return UserError(f"cannot read {path}: {reason}")


def _leaves(states: State) -> dict[str, str]:
    """The arrays' types and shapes by name."""
    leaves = jax.tree_util.tree_flatten_with_path(states)[0]
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _check_leaves(path: Path, found: dict[str, str], wanted: dict[str, str]) -> None:
    """orbax would cut, fill and convert arrays without a word."""
    for name in (*wanted, *found):
        if found.get(name) != wanted.get(name):
            raise UnfitCheckpoint(
                path,
                f"written for other states, by another version of the program: {name} is "
                f"{found.get(name, 'not there')}, not {wanted.get(name, 'wanted')}",
            )


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _file_digests(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            digests[str(path.relative_to(folder))] = _file_digest(path)
    return digests


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(folder: Path, progress: dict[str, Any], leaves: dict[str, str]) -> None:
    """Written last: the digests of all other files, and its own."""
    content = {"progress": progress, "leaves": leaves, "files": _file_digests(folder)}
    (folder / MANIFEST).write_text(json.dumps({**content, "digest": _digest(content)}, indent=1) + "\n")


def _read_manifest(path: Path) -> dict[str, Any]:
    """Returns the manifest of a checkpoint of which every byte is as it was written.

    Raises:
        DamagedCheckpoint: if it is not.
        UserError: if the system does not let it be read.
    """
    try:
        with _reading(path, MANIFEST), (path / MANIFEST).open("rb") as file:
            content = json.loads(file.read())
        if not isinstance(content, dict) or content.pop("digest", None) != _digest(content):
            raise DamagedCheckpoint(path, f"{MANIFEST} is not as it was written")
    except (ValueError, RecursionError) as error:  # JSON and UTF-8
        raise DamagedCheckpoint(path, f"{MANIFEST} is not JSON") from error
    for name, digest in content["files"].items():
        with _reading(path, name):
            found = _file_digest(path / name)
        if found != digest:
            raise DamagedCheckpoint(path, f"{name} is not as it was written")
    return content


@contextlib.contextmanager
def _reading(path: Path, name: str) -> Iterator[None]:
    """What is not there is damage. What the system refuses otherwise (too many open files, no permission, a
    server or disk that fails) says nothing of the checkpoint."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedCheckpoint(path, f"{name} is missing") from error
    except OSError as error:  # of a read, it does not know the file's name
        raise _cannot_read(path / name, error) from error


@contextlib.contextmanager
def _silent_orbax() -> Iterator[None]:
    """Keeps off the screen what is raised here anyway, as one error.

    orbax logs an error with its traceback in each thread that it passes. And after the first, tensorstore's
    other writes report to an event loop that is closed, and asyncio tells of tasks that nobody awaited; as
    these may come any time later, they stay silenced.
    """
    loggers, hook = (logging.getLogger("absl"), logging.getLogger("asyncio")), sys.unraisablehook

    def is_of_others(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname + record.getMessage()

    def tell_of_others(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    for logger in loggers:
        logger.addFilter(is_of_others)
    sys.unraisablehook = tell_of_others
    yield
    sys.unraisablehook = hook
    for logger in loggers:
        logger.removeFilter(is_of_others)
