"""Files that a command line asks for: they never take the place of what the command reads, or a run keeps."""

import contextlib
import hashlib
import itertools
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from xql_jax.errors import UserError
from xql_jax.files import replacing, sync

# What a run keeps in its folder, which its config.json makes known as one; see `training.loop.TrainingFiles`.
OWN_FILES = (
    "config.json",
    "metrics.csv",
    "evaluations.csv",
    "bellman_errors.csv",
    "summary.json",
    "preprocessing.json",
    "learning_curve.png",
    "maze.png",
    ".lock",
)
OWN_FOLDERS = ("checkpoints", "replay", "tb")
SET_ASIDE = ("damaged-", "earlier-")


def check_output(
    flag: str, name: str, suffixes: Collection[str] = (), inputs: Collection[str | Path] = ()
) -> Path:
    """Returns the path that the flag gives; what lies there is left alone.

    Args:
        flag: its name, for messages.
        name: of a file, new or to be replaced. Folders above it need not exist.
        suffixes: those that the file may have; none: any.
        inputs: files and folders that the command reads, which need not exist; they are not to be replaced.
    Raises:
        UserError: if no file of that name can be written, or what lies there is an input, in an input's
            folder, or one of a run's own files.
    """
    path = Path(name).expanduser()
    where = f"--{flag}={path}"
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{where}: unknown suffix {path.suffix!r}; known: {', '.join(suffixes)}")
    try:
        if path.exists() and not path.is_file():
            kind = "a directory" if path.is_dir() else "a device"
            raise UserError(f"{where}: cannot be written: it is {kind}, not a file")
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        for source in map(Path, inputs):
            if _is_same(path, source):
                raise UserError(f"{where}: that is an input, {source}: give another name")
            if source.is_dir() and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(source)):
                raise UserError(f"{where}: that is in the folder of an input, {source}: give another one")
    except OSError as error:  # a name that is too long, a loop of links
        raise UserError(f"{where}: cannot be written: {error.strerror}") from error
    _check_not_a_runs(where, path)
    if not folder.is_dir():
        raise UserError(f"{where}: cannot be written: {folder} is not a directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{where}: cannot be written: no permission to write in {folder}")
    return path


def check_outputs_differ(outputs: Mapping[str, Path | None]) -> None:
    """Raises UserError if two of a command's outputs, by flag, would be the same file; None is none."""
    given = [(flag, path) for flag, path in outputs.items() if path is not None]
    for (flag, path), (other, of_other) in itertools.combinations(given, 2):
        if _is_same(path, of_other):
            raise UserError(f"--{flag} and --{other} are the same file, {path}: give them two names")


def _is_same(path: Path, other: Path) -> bool:
    """Whether the two are one file, by whatever name, or will be once they are there."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.realpath(path) == os.path.realpath(other)


def _check_not_a_runs(where: str, path: Path) -> None:
    """Raises UserError if a run would miss what is written over."""
    # A link would be replaced, not followed; but whoever gives one means what it leads to.
    for place in {Path(os.path.realpath(path)), Path(os.path.realpath(path.parent)) / path.name}:
        for folder in place.parents:
            if not os.path.isfile(folder / "config.json"):
                continue
            first, *below = place.relative_to(folder).parts
            is_own = not below and first.removesuffix(".tmp") in OWN_FILES
            if is_own or first in OWN_FOLDERS or first.startswith(SET_ASIDE):
                raise UserError(f"{where}: that is of the run in {folder}: give another name")


@contextlib.contextmanager
def writing_output(flag: str, path: Path) -> Iterator[Path]:
    """Gives a name for a file in the making, which becomes the one that the flag names if all goes well.

    Its suffix is that of `path`; folders above are made.
    Raises:
        UserError: naming flag and file, for what the system refuses meanwhile. An older file stays then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, unfinished_name(path)) as unfinished:
            yield unfinished
            sync(unfinished)
        sync(path.parent)
    except OSError as error:
        stays = "; the old file is as it was" if path.exists() else ""
        reason = error.strerror or str(error)
        raise UserError(f"--{flag}={path}: cannot be written: {reason}{stays}") from error


def unfinished_name(path: Path) -> str:
    """The name, beside `path`, of what is to become it: its own, but no longer than a name may be."""
    whole = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    return f".{path.stem[:40]}.{whole}.unfinished{path.suffix[:10].lower()}"


def make_folder(flag: str, name: str) -> Path:
    """Returns the folder for outputs that the flag names, made with all above it, or raises UserError."""
    path = Path(name).expanduser()
    _check_not_a_runs(f"--{flag}={path}", path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{flag}={path}: cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"--{flag}={path}: no permission to write there")
    return path
