"""Reads NumPy archives of transitions, or of rows in D4RL's or OGBench's layout."""

import contextlib
import functools
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from xql_jax.data.cache import BLOCK, Column
from xql_jax.data.d4rl_hdf5 import EXPANSION, from_rows
from xql_jax.data.dataset import RANKS, Dataset, brief, check_file, check_type, from_transitions, validated
from xql_jax.errors import UserError

# The names that other libraries give to the arrays.
SYNONYMS = {
    "observations": ("obs", "observation", "states"),
    "actions": ("acts", "action"),
    "rewards": ("rews", "reward"),
    "next_observations": ("next_obs", "next_observation", "next_states"),
    "terminals": ("terminated", "terminations", "terminal"),
    "timeouts": ("truncated", "truncations", "timeout"),
}
DONES = "dones"  # may mark final states or time-outs, so it is no synonym
OGBENCH_KEYS = ("observations", "actions", "next_observations", "terminals", "rewards", "masks")

# What zipfile, zlib and NumPy raise for damaged archives; also for pickles, which are refused, not run.
DAMAGED = (
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    SyntaxError,
    OverflowError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(path: Path, episode_limit: int | None) -> Dataset:
    """Reads a `.npz` of observations, actions, rewards and either terminals or masks = 1 - terminals.

    With `next_observations` every row is a transition. Without, rows are steps in D4RL's layout and are
    converted by `qlearning_dataset`, except that the last row stays if it is terminal. Ends of trajectories
    may be marked by `timeouts` (all ends but terminals) or `ends` (all).

    Args:
        path: the archive; pickled objects in it are refused, not run.
        episode_limit: steps, for rows in D4RL's layout without timeouts; None if no limit is known.
    Raises:
        UserError: if the file is absent or damaged, or lacks a key, or an array is unfit (see `validated`).
    """
    arrays = read_archive(path, tuple(RANKS))
    _check_keys(path, arrays)
    arrays = _marked(arrays, str(path))
    if not arrays.keys() & {"next_observations", "timeouts"} and "qpos" in archive_keys(path):
        raise UserError(ogbench_or_not(path))
    return _dataset(arrays, episode_limit, str(path))


def from_arrays(arrays: Mapping[str, np.ndarray], episode_limit: int | None, source: str) -> Dataset:
    """Builds a dataset from arrays that have the keys of a `.npz`, see `read_npz`; other arrays are ignored.

    Args:
        arrays: by key.
        episode_limit: as for `read_npz`.
        source: where they come from, for messages.
    Raises:
        UserError: as `read_npz`.
    """
    missing, renamed = missing_keys(arrays), _renamed(arrays)
    if missing or renamed:
        found = brief(", ".join(map(str, arrays)) or "nothing")
        names = "".join(f"; rename {name} to {key}" for key, name in renamed.items())
        raise UserError(f"{source}: no array {', '.join(missing or renamed)}; there is {found}{names}")
    marked = _marked({key: arrays[key] for key in RANKS if key in arrays}, source)
    return _dataset(marked, episode_limit, source)


def _marked(arrays: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Returns the arrays, validated, with `terminals` from masks and `timeouts` from ends."""
    checked = validated(arrays, source)
    checked["terminals"] = terminals_of(checked, source)
    if "ends" in checked and "timeouts" not in checked:
        checked["timeouts"] = (checked["ends"] != 0) & ~checked["terminals"]
    return checked


def _dataset(arrays: dict[str, np.ndarray], episode_limit: int | None, source: str) -> Dataset:
    if "next_observations" in arrays:
        return from_transitions(arrays, source)
    return from_rows(arrays, episode_limit, source, keeps_last=True)


def npz_columns(path: Path) -> dict[str, Column]:
    """Returns the arrays that `read_npz` reads, for use from disk; only keys and types are checked.

    Raises:
        UserError: if the file is absent or damaged, or lacks a key.
    """
    columns = archive_columns(path, tuple(RANKS))
    _check_keys(path, columns)
    return columns


def read_ogbench(path: Path) -> Dataset:
    """Reads a `.npz` in OGBench's layout: `terminals` mark the last row of each trajectory, a time-out.

    Terminal states, if there are any, are those with masks = 0: in OGBench's single-task data, where the goal
    is reached. Without `next_observations`, rows are steps as in OGBench's files, and the last of each
    trajectory has no next observation. With it, rows are transitions, as in what its `make_env_and_datasets`
    returns.

    Raises:
        UserError: as `read_npz`; also if there are no rewards, which OGBench's own files do not have.
    """
    arrays = read_archive(path, OGBENCH_KEYS)
    if "rewards" not in arrays:
        raise UserError(
            f"{path}: no array rewards; OGBench's own files have none, its single-task environments add "
            "them: save what ogbench.make_env_and_datasets('...-singletask-v0') returns with np.savez"
        )
    check_complete(path, [key for key in ("observations", "actions", "terminals") if key not in arrays])
    arrays = validated(arrays, str(path))
    arrays["timeouts"] = arrays.pop("terminals") != 0
    arrays["terminals"] = (
        terminals_of(arrays, path) if "masks" in arrays else np.zeros_like(arrays["timeouts"])
    )
    if "next_observations" in arrays:
        return from_transitions(arrays, str(path))
    return from_rows(arrays, None, str(path))


def ogbench_or_not(path: Path) -> str:
    """Returns the message for rows if it matters, and is not known, whether they are OGBench's."""
    return (
        f"{path}: rows without timeouts beside qpos: if they are OGBench's, whose terminals mark time-outs, "
        f"give ogbench:{path}; if not, add timeouts"
    )


def read_archive(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the arrays in the archive that are among `keys`; only their types are checked.

    Raises:
        UserError: if the file is absent, damaged, or not an archive.
    """
    with _archive(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        return {key: _read_member(archive, members[key], key, path) for key in keys if key in members}


def archive_columns(path: Path, keys: tuple[str, ...]) -> dict[str, Column]:
    """Returns the arrays in the archive that are among `keys`, unread; raises UserError as `read_archive`."""
    with _archive(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        return {key: _column(archive, members[key], key, path) for key in keys if key in members}


def archive_keys(path: Path) -> list[str]:
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def missing_keys(found: Collection[str]) -> list[str]:
    """Returns the keys that transitions or rows must have and that are not found."""
    missing = [key for key in ("observations", "actions", "rewards") if key not in found]
    if "terminals" not in found and "masks" not in found:
        missing.append("terminals (or masks)")
    return missing


def _check_keys(path: Path, found: Collection[str]) -> None:
    """Raises UserError if an array is missing, or there is one only under another library's name."""
    missing, names = missing_keys(found), archive_keys(path)
    renamed = _renamed(names)
    if renamed or (missing and DONES in names):
        held = brief(", ".join(names))
        missing = missing or list(renamed)
        raise UserError(
            f"{path}: no array {', '.join(missing)}; the file holds {held}. {_line_to_write(path, names)}"
        )
    check_complete(path, missing)


def _renamed(names: Collection[str]) -> dict[str, str]:
    """Returns, by our names, the names of arrays that an archive has only under another library's name."""
    own = {*names, *(("timeouts",) if "ends" in names else ()), *(("terminals",) if "masks" in names else ())}
    pairs = (
        (key, next((name for name in others if name in names), None)) for key, others in SYNONYMS.items()
    )
    return {key: name for key, name in pairs if name is not None and key not in own}


def _line_to_write(path: Path, names: Collection[str]) -> str:
    """Returns a line of Python that saves an archive's arrays under our names."""
    renamed = _renamed(names)
    given = {key: name for key in RANKS if (name := key if key in names else renamed.get(key))}
    arrays = [f"{key}=a[{name!r}]" for key, name in given.items()]
    dones = ""
    if DONES in names and "terminals" not in given and "masks" not in given:
        zeros = f"np.zeros(len(a[{DONES!r}]))"
        arrays.append(f"terminals=a[{DONES!r}]")
        dones = (
            f" if {DONES} marks final states; if it marks time-outs, terminals={zeros}, timeouts=a[{DONES!r}]"
        )
    output = repr(f"renamed-{path.name}")
    return f"Write: a = np.load({str(path)!r}); np.savez({output}, {', '.join(arrays)}){dones}"


def check_complete(path: Path, missing: list[str]) -> None:
    """Raises UserError if any key is missing."""
    if missing:
        found = brief(", ".join(archive_keys(path)) or "nothing")
        raise UserError(f"{path}: no array {', '.join(missing)}; the file holds {found}")


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    check_file(path)
    try:
        with path.open("rb") as file:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                raise UserError(f"{path}: a single NumPy array, not an archive of named arrays")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DAMAGED as error:
        raise UserError(f"{path}: not a readable .npz archive ({brief(error)})") from error
    except MemoryError as error:
        raise UserError(f"{path}: its arrays do not fit into memory ({brief(error)})") from error


def _read_member(archive: zipfile.ZipFile, name: str, key: str, path: Path) -> np.ndarray:
    _read_header(archive, name, key, path)
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _column(archive: zipfile.ZipFile, name: str, key: str, path: Path) -> Column:
    shape, fortran_order, dtype = _read_header(archive, name, key, path)
    obstacle = "is not stored row by row" if fortran_order and len(shape) > 1 else ""
    size = archive.getinfo(name).file_size
    return Column(shape, dtype, size, functools.partial(_blocks, path, name), obstacle)


def _blocks(path: Path, name: str) -> Iterator[bytes]:
    """Yields an array's content piece by piece: an archive's file named `.npy` is itself such a file."""
    with _archive(path) as archive, archive.open(name) as file:
        while block := file.read(BLOCK):  # reading the last one verifies the checksum
            yield block


def _read_header(
    archive: zipfile.ZipFile, name: str, key: str, path: Path
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns an array's shape, whether it is stored column by column, and its type, all checked.

    Raises:
        ValueError: if the header is damaged, or the array holds objects.
    """
    # NumPy's own two; the others can expand without a limit, before their size is checked.
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{key} has a compression that NumPy does not write")
    with archive.open(name) as file:
        size = archive.getinfo(name).file_size
        if size > EXPANSION * path.stat().st_size:
            raise ValueError(f"{key} claims {size:,} bytes, the file has {path.stat().st_size:,}")
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"unknown version {version} of the .npy format")
        try:
            shape, fortran_order, dtype = readers[version](file)
        except (MemoryError, RecursionError) as error:  # from Python's parser, if it is nested too deep
            raise ValueError(f"the header of {key} is none") from error
        if dtype.hasobject:
            raise ValueError(f"{key} holds Python objects, which would need allow_pickle")
        check_type(dtype, key, str(path))
        # A damaged header may claim any shape, and memory would be allocated for it before a byte is read.
        if dtype.itemsize * _product(shape) != size - file.tell():
            raise ValueError(f"{key} claims the shape {shape}, which is not that of its bytes")
        return shape, fortran_order, dtype


def _product(shape: tuple[int, ...]) -> int:
    """Returns the product, exactly; NumPy's would overflow."""
    product = 1
    for length in shape:
        if length < 0:
            raise ValueError(f"negative length in the shape {shape}")
        product *= length
    return product


def terminals_of(arrays: Mapping[str, np.ndarray], path: Path | str) -> np.ndarray:
    """Returns bool[N]; UserError if masks are not 0 or 1, or contradict terminals."""
    given = "terminals" if "terminals" in arrays else "masks"
    terminals = (arrays[given].reshape(-1) != 0) == (given == "terminals")
    masks = arrays["masks"].reshape(-1) if "masks" in arrays else ~terminals
    if (masks != ~terminals).any():
        row = np.flatnonzero(masks != ~terminals)[0]
        must = "must be 0 or 1"
        if "terminals" in arrays:
            must += " and equal 1 - terminals (where terminals mark time-outs, as OGBench's do, give "
            must += f"ogbench:{path})"
        raise UserError(f"{path}: masks holds {masks[row]} at row {row}, {must}")
    return terminals
