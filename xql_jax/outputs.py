"""Output files named by flags: they never overwrite the command's inputs, or the files of a run."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from xql_jax.errors import UserError
from xql_jax.files import sync

# The files of a run, see `training.loop.TrainingFiles`. A folder with a config.json is a run's folder.
OWN_FILES = (
    *("config.json", "metrics.csv", "evaluations.csv", "episodes.csv", "bellman_errors.csv", "summary.json"),
    *(".lock", ".heartbeat", "preprocessing.json"),
    *("learning_curve.png", "learning_curve.svg", "maze.png", "maze.svg"),
)
OWN_FOLDERS = ("checkpoints", "replay", "tb", "wandb")
SET_ASIDE = ("damaged-", "earlier-")


def check_output(
    flag: str, name: str, suffixes: Collection[str] = (), inputs: Collection[str | Path] = ()
) -> Path:
    """Checks that an output file can be written; returns its path, and changes nothing.

    Args:
        flag: the flag's name, for messages.
        name: the file's name. The file may exist; the folders above it need not exist.
        suffixes: the allowed suffixes; empty: any.
        inputs: files and folders that the command reads, and that the output must not overwrite.
    Raises:
        UserError: if the file cannot be written, is an input or inside an input folder, or is one of a run's
            own files.
    """
    path = Path(name).expanduser()
    where = f"--{flag}={path}"
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{where}: unknown suffix {path.suffix!r}; known: {', '.join(suffixes)}")
    try:
        if path.is_dir():
            raise UserError(f"{where}: cannot be written: it is a directory")
        for source in (Path(name).expanduser() for name in inputs):
            if path.resolve().is_relative_to(source.resolve()):
                raise UserError(f"{where}: that is an input, {source}, or inside it: give another name")
        folder = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:  # a name that is too long, a loop of links
        raise UserError(f"{where}: cannot be written: {error.strerror}") from error
    _check_not_a_runs(where, path)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{where}: cannot be written: {folder} is not a directory that you may write to")
    return path


def check_outputs_differ(outputs: Mapping[str, Path | None]) -> None:
    """Raises UserError if two outputs, given by flag, would be the same file. None means no output."""
    given = [(flag, path) for flag, path in outputs.items() if path is not None]
    for (flag, path), (other, of_other) in itertools.combinations(given, 2):
        if path.resolve() == of_other.resolve():
            raise UserError(f"--{flag} and --{other} are the same file, {path}: give them two names")


def _check_not_a_runs(where: str, path: Path) -> None:
    """Raises UserError if the path is one of a run's own files."""
    place = path.resolve()
    for folder in place.parents:
        if (folder / "config.json").is_file():
            first, *below = place.relative_to(folder).parts
            is_own = not below and first.removesuffix(".tmp") in OWN_FILES
            if is_own or first in OWN_FOLDERS or first.startswith(SET_ASIDE):
                raise UserError(f"{where}: that is of the run in {folder}: give another name")


@contextlib.contextmanager
def writing_output(flag: str, path: Path) -> Iterator[Path]:
    """Context manager that yields a path to write a file or folder to, which becomes `path` if nothing fails.

    Missing folders above it are made.
    Raises:
        UserError: if the system refuses something; the message names flag and file. An older file is kept.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=path.parent) as folder:
            unfinished = Path(folder) / path.name
            yield unfinished
            for part in (*unfinished.rglob("*"), unfinished):
                sync(part)
            os.replace(unfinished, path)
        sync(path.parent)
    except OSError as error:
        stays = "; the old file is as it was" if path.exists() else ""
        reason = error.strerror or str(error)
        raise UserError(f"--{flag}={path}: cannot be written: {reason}{stays}") from error


def make_folder(flag: str, name: str) -> Path:
    """Makes the folder for outputs that the flag names, with its parents; UserError if it cannot be used."""
    path = Path(name).expanduser()
    _check_not_a_runs(f"--{flag}={path}", path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{flag}={path}: cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"--{flag}={path}: no permission to write there")
    return path
