"""Loads a dataset from any source: a file, a folder, a library, or the task's own file, which is fetched."""

import dataclasses
import functools
import hashlib
import os
import pkgutil
import shutil
import urllib.request
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import h5py
import tqdm

from xql_jax.data.arrays import Layout, brief
from xql_jax.data.dataset import FILE_SUFFIXES, SOURCE_PREFIXES, Dataset, joined
from xql_jax.data.names import RECIPES
from xql_jax.data.readers import read_hdf5, read_npz, read_ogbench
from xql_jax.errors import UserError
from xql_jax.files import replacing
from xql_jax.files.paths import located
from xql_jax.suites.tasks import Task

TIMEOUT = 60.0  # seconds, to connect and without a byte


def load_dataset(
    task: Task | None, sources: Sequence[str | Dataset], unused_arrays: Collection[str] = ()
) -> Dataset:
    """Loads the given sources, or the task's own dataset if there are none; does no preprocessing.

    Args:
        task: also gives the episode limit for files without time-outs. It may be None if there are sources.
        sources: see docs/data.md; or datasets that are in memory already.
        unused_arrays: names of arrays that are read past.
    """
    if not sources and task is None:
        raise UserError("no data: name a D4RL task or give a dataset file")
    layout = Layout(task.episode_limit if task else None, unused=unused_arrays)
    parts = [_read(source, layout, task) for source in sources or (None,)]
    if empty := [part.source for part in parts if not part.size]:
        raise UserError(
            f"{empty[0]}: no transition is left: each row is the last of an episode that was cut off"
        )
    for index, part in enumerate(parts if len(parts) > 1 else ()):
        notes = tuple(note._replace(text=f"{part.source}: {note}") for note in part.notes)
        parts[index] = dataclasses.replace(part, notes=notes)
    return joined(parts)


def _read(source: str | Dataset | None, layout: Layout, task: Task | None) -> Dataset:
    """Reads one source of `load_dataset` into memory; None is the task's own file."""
    if isinstance(source, Dataset):
        return source
    if source is None:
        assert task is not None
        source = str(task_file(task))
        if task.suite.reader:
            return pkgutil.resolve_name(task.suite.reader)(Path(source), task)
    kind, _, place = source.partition(":")
    if kind == "ogbench":
        return read_ogbench(located(place), task, layout)
    path = located(source)
    if kind == "minari" or path.is_dir():
        from xql_jax.data.episodes import read_minari, read_npz_folder  # which few runs need

        return read_minari(place) if kind == "minari" else read_npz_folder(path, layout)
    if path.suffix.lower() not in FILE_SUFFIXES:
        raise UserError(
            f"{path}: unknown suffix {path.suffix!r} of a dataset file; known: {', '.join(FILE_SUFFIXES)}, "
            "a directory of .npz episodes, ogbench:FILE.npz, minari:ID; lines that convert others are in "
            f"{RECIPES!r}"
        )
    if path.suffix.lower() == ".npz":
        return read_npz(path, layout)
    return read_hdf5(path, layout)


def stamps(task: Task | None, sources: Sequence[str | Dataset]) -> list[list[str | int]] | None:
    """Returns name, size in bytes and SHA-256 of each file that is read; None if there is none to read."""
    contents: list[list[str | int]] = []
    for source in sources or ([str(cached_file(task))] if task else []):
        if not isinstance(source, str):
            return None
        name = source.partition(":")[2] if source.startswith(SOURCE_PREFIXES) else source
        path = located(name)
        if source.startswith("minari:") and not path.exists():
            path = located(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets") / name
        try:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if not file.is_dir():
                    status = file.stat()
                    facts = (
                        status.st_size,
                        status.st_mtime_ns,
                        status.st_ctime_ns,
                        status.st_ino,
                        status.st_dev,
                    )
                    contents.append([file.name, status.st_size, _sha256(file, *facts)])
        except OSError:
            return None
    return contents


@functools.cache
def _sha256(file: Path, *facts: int) -> str:
    """Returns the digest of a file's content. A process reads the file again only if the facts change."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def cached_file(task: Task) -> Path:
    """Returns the path of the task's dataset, which need not exist; a generated one is named by its task."""
    variable, place = task.suite.data_folder
    folder = located(os.environ.get(variable) or place)
    return folder / (task.dataset_url.rsplit("/", 1)[1] if task.dataset_url else f"{task.name}.hdf5")


def task_file(task: Task) -> Path:
    """Returns the path of the task's own dataset, which is downloaded or generated if it is not there."""
    if not task.has_data:
        raise UserError(f"{task.name} has no dataset: learn it with xql-train-online, or give --dataset")
    path = cached_file(task)
    if path.exists():
        return path
    if task.dataset_url is None:
        pkgutil.resolve_name(task.suite.generates)(task, path)
    else:
        download_file(task.dataset_url, path, task.suite.data_folder.variable)
    return path


def download_file(url: str, path: Path, variable: str) -> None:
    """Downloads an HDF5 or NumPy file to `path`, which is in the folder that a `variable` names."""
    open_file = zipfile.ZipFile if path.suffix == ".npz" else h5py.File
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = f"{path.name}.{os.getpid()}.tmp"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, replacing(path, temporary) as unfinished:
            size = int(answer.headers["Content-Length"] or 0) or None  # bytes; not every server says it
            shown = tqdm.tqdm.wrapattr(answer, "read", size, desc=path.name, disable=None)
            with unfinished.open("wb") as file, shown as body:
                shutil.copyfileobj(body, file)
            open_file(unfinished, "r").close()  # fails if it is not of that kind, or cut off
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be downloaded from {url}: {brief(error)}; put the file there by hand, as from a "
            f"mirror, or name another folder with {variable}"
        ) from error
