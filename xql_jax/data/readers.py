"""Reads single files of data: HDF5 in D4RL's layout, NumPy archives, OGBench's."""

import contextlib
import dataclasses
import pkgutil
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

import h5py
import numpy as np

from xql_jax.data.arrays import REQUIRED, ROWS, Layout, brief, from_arrays
from xql_jax.data.dataset import Dataset, checked_references
from xql_jax.data.memory import check_memory
from xql_jax.data.names import OUR_NAMES
from xql_jax.errors import UserError
from xql_jax.suites.tasks import TASKS, References, Task

REFERENCES = tuple(f"metadata/{name}" for name in References._fields)  # arrays of a number
MADE_BY = "made_by"  # the command that made a file, as of examples/ogbench_data.py
SIMULATOR_ARRAYS = ("qpos", "button_states")  # from which OGBench's tasks give rewards
# The names of the files that are read as D4RL reads its own, the embedded mazes' among them.
D4RL_FILES = {
    (task.dataset_url or f"{task.name}.hdf5").rpartition("/")[2]
    for task in TASKS.values()
    if task.suite.reads_as_d4rl
}


def read_hdf5(path: Path, layout: Layout) -> Dataset:
    """Reads a file of transitions, or of rows; those of D4RL's tasks exactly as D4RL does."""
    is_d4rls = path.name in D4RL_FILES
    with reading(path, "HDF5 file"), h5py.File(path, "r") as file:
        names = dataset_names(file)
        read = [name for name in names if name in ((*REQUIRED, "timeouts") if is_d4rls else OUR_NAMES)]
        check_memory(sum(file[name].nbytes for name in read), str(path))
        arrays = {name: file[name][()] for name in read}
        returns = [np.asarray(file[name][()]).tolist() if name in file else None for name in REFERENCES]
    layout = dataclasses.replace(layout, as_d4rl=is_d4rls)
    dataset = from_arrays(arrays, str(path), layout, names)
    return dataclasses.replace(dataset, references=checked_references(returns, str(path)))


def read_npz(path: Path, layout: Layout) -> Dataset:
    """Reads a `.npz` of transitions, of rows, or of an episode if the layout says so."""
    arrays, names = read_archive(path, (*OUR_NAMES, *REFERENCES))
    returns = [arrays.pop(name).tolist() if name in arrays else None for name in REFERENCES]
    dataset = from_arrays(arrays, str(path), layout, names)
    return dataclasses.replace(dataset, references=checked_references(returns, str(path)))


def read_ogbench(path: Path, task: Task | None = None, layout: Layout = ROWS) -> Dataset:
    """Reads a `.npz` in OGBench's layout: `terminals` mark the last row of each trajectory, a time-out.

    Terminal states, if there are any, are those with masks = 0. Without `next_observations`, rows are steps
    as in OGBench's files. With it, they are transitions, as in what its `make_env_and_datasets` returns.

    OGBench's own files have no rewards: a single-task task gives them, from the states in `qpos`.
    """
    arrays, names = read_archive(path, (*OUR_NAMES, *SIMULATOR_ARRAYS, MADE_BY))
    made_by = arrays.pop(MADE_BY, None)
    source = str(path) if made_by is None else f"{path} (made by {made_by})"
    if "rewards" not in arrays and "qpos" in arrays and task and task.suite.labels:
        with reading(path, f"file of states that fit {task.name}"):
            arrays = pkgutil.resolve_name(task.suite.labels)(task, arrays)
        names = [*names, "rewards", "masks"]
    if "rewards" not in arrays:
        raise UserError(
            f"{path}: no array rewards; OGBench's own files have none: give --env_name of a singletask task"
        )
    names = [name for name in names if name not in (*SIMULATOR_ARRAYS, MADE_BY)]
    return from_arrays(arrays, source, dataclasses.replace(layout, terminals_are_ends=True), names)


def read_archive(
    path: Path, wanted: Collection[str] | None = None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the arrays in a `.npz` whose names are wanted (None: all), and all arrays' names."""
    # ZipFile first, because NumPy speaks of pickles where a file is no ZIP.
    with reading(path, ".npz archive"), zipfile.ZipFile(path), np.load(path, allow_pickle=False) as archive:
        keys = [key for key in archive.files if wanted is None or key in wanted]
        check_memory(sum(archive.zip.getinfo(f"{key}.npy").file_size for key in keys), str(path))
        try:
            return {key: np.asarray(archive[key]) for key in keys}, list(archive.files)
        except ValueError as error:
            if "Object arrays" not in str(error):
                raise
            raise UserError(f"{path}: an array of Python objects, which are not read") from error


def dataset_names(file: h5py.File) -> list[str]:
    """Returns the names of all arrays in an HDF5 file; UserError if the numbers of one are in other files."""
    links: dict[str, object] = {}
    file.visititems_links(links.__setitem__)
    arrays = {name: each for name in links if isinstance(each := file.get(name), h5py.Dataset)}
    elsewhere = [name for name, array in arrays.items() if array.is_virtual or array.external]
    elsewhere += [name for name, link in links.items() if not isinstance(link, h5py.HardLink)]
    if elsewhere:
        where = f"{file.filename}: {elsewhere[0]}"
        raise UserError(f"{where} is a link, or its numbers are in other files: copy them into this one")
    return list(arrays)


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Raises UserError that names the file, a `what`, instead of whatever a library raises in the context."""
    if not path.is_file():
        raise UserError(f"{path}: " + ("a directory, not a file" if path.is_dir() else "no such file"))
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # h5py, zipfile, zlib and NumPy raise almost anything for a damaged file
        raise UserError(f"{path}: not a readable {what} ({brief(error)})") from error
