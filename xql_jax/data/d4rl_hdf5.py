"""D4RL's HDF5 files: one row a step, turned into transitions as D4RL's `qlearning_dataset` does."""

import contextlib
import dataclasses
import functools
import io
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from xql_jax.data.cache import BLOCK, Column
from xql_jax.data.dataset import (
    Dataset,
    brief,
    check_file,
    check_type,
    checked_references,
    from_transitions,
    validated,
)
from xql_jax.data.hdf5_links import find
from xql_jax.errors import UserError
from xql_jax.tasks import References

REQUIRED = ("observations", "actions", "rewards", "terminals")
H5PY_ERRORS = (OSError, LookupError, RuntimeError, ValueError, TypeError)  # its ways to say "damaged"
EXPANSION = 1100  # deflate makes of a byte at most 1,032
UNPACKING = 3  # a chunk is unpacked whole, into a buffer that is doubled as it fills, beside the packed one


def read_hdf5(path: Path, episode_limit: int | None, external_data: bool = False) -> Dataset:
    """Reads a file in D4RL's layout.

    Args:
        path: the HDF5 file. D4RL never reads a `next_observations` that may be in it, nor does this.
        episode_limit: steps, for a file without `timeouts`; None where no limit is known.
        external_data: may its arrays lie in other files, see `hdf5_links`.
    Raises:
        UserError: if the file is absent or damaged, or lacks a key, or an array is unfit (see `validated`).
    """
    # Not under a name, by which the arrays would be kept beside what is made of them.
    dataset = from_rows(validated(_read_arrays(path, external_data), str(path)), episode_limit, str(path))
    return dataclasses.replace(dataset, references=read_references(path, external_data))


def read_references(path: Path, external_data: bool = False) -> References | None:
    """Returns the reference returns that the file's metadata bring, None if they bring none.

    Raises:
        UserError: if there is but one, or they are no numbers or cannot be references.
    """
    with opened(path) as file:
        found = {}
        for name in References._fields:
            member = find(file, f"metadata/{name}", external_data)
            if isinstance(member, h5py.Dataset):
                if member.shape != () or member.dtype.kind not in "iuf":
                    raise UserError(f"{path}: metadata/{name} is not one real number")
                found[name] = float(member[()])
    if not found:
        return None
    missing = [name for name in References._fields if name not in found]
    if missing:
        raise UserError(f"{path}: metadata/{next(iter(found))} without metadata/{missing[0]}")
    return checked_references(**found, source=str(path))


def hdf5_columns(path: Path, external_data: bool = False) -> dict[str, Column]:
    """Returns the arrays of a file in D4RL's layout, unread and unchecked but for keys and types.

    Raises:
        UserError: if the file is absent or damaged, or lacks a key.
    """
    with opened(path) as file:
        members = _members(path, file, external_data)
        return {key: _column(path, file, key, member) for key, member in members.items()}


def _read_arrays(path: Path, external_data: bool) -> dict[str, np.ndarray]:
    with opened(path) as file:
        return {key: member[()] for key, member in _members(path, file, external_data).items()}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; raises UserError for what is wrong with it, until it is closed."""
    check_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except H5PY_ERRORS as error:
        raise UserError(f"{path}: not a readable HDF5 file ({brief(error)})") from error
    except MemoryError as error:
        raise UserError(f"{path}: its arrays do not fit into memory ({brief(error)})") from error


def _members(path: Path, file: h5py.File, external_data: bool) -> dict[str, h5py.Dataset]:
    # Members are opened one by one: in a damaged file, to look at them is already to fail.
    found = {key: find(file, key, external_data) for key in (*REQUIRED, "timeouts")}
    missing = [key for key in REQUIRED if not isinstance(found[key], h5py.Dataset)]
    if missing:
        names = brief(", ".join(file) or "nothing")
        raise UserError(f"{path}: no array {', '.join(missing)}; the file holds {names}")
    arrays = {key: member for key, member in found.items() if isinstance(member, h5py.Dataset)}
    for key, member in arrays.items():
        check_type(member.dtype, key, str(path))
        _check_size(member, key, path)
    return arrays


def _column(path: Path, file: h5py.File, key: str, member: h5py.Dataset) -> Column:
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(member.dtype.str))  # without what h5py adds of enums
    np.lib.format.write_array_header_1_0(
        header, {"descr": descr, "fortran_order": False, "shape": member.shape}
    )
    # Its numbers may change while this file does not, and then what is cached of it would be wrong.
    is_elsewhere = member.file.filename != file.filename or member.external or member.is_virtual
    return Column(
        member.shape,
        np.dtype(member.dtype.str),
        len(header.getvalue()) + member.nbytes,
        functools.partial(_blocks, path, key, header.getvalue()),
        "lies in another file (external link, external storage, virtual dataset)" if is_elsewhere else "",
        scratch(member),
    )


def scratch(member: h5py.Dataset) -> int:
    """Returns the bytes of memory that reading an array takes besides its own."""
    packed = member.chunks and member.id.get_create_plist().get_nfilters()
    return UNPACKING * member.dtype.itemsize * math.prod(member.chunks) if packed else 0


def _blocks(path: Path, key: str, header: bytes) -> Iterator[bytes | memoryview]:
    yield header
    with opened(path) as file:
        member = _members(path, file, external_data=False)[key]
        rows = max(1, BLOCK * len(member) // member.nbytes)
        if member.chunks:
            rows = rows // member.chunks[0] * member.chunks[0] or rows  # no chunk is unpacked twice
        for start in range(0, len(member), rows):
            yield member[start : start + rows].data


def _check_size(member: h5py.Dataset, key: str, path: Path) -> None:
    """A damaged file may claim any shape, and memory for it would be asked for before a byte is read."""
    if member.shape is None:
        raise UserError(f"{path}: {key} is empty: it has no shape")
    if member.is_virtual or member.external:
        return  # as large as what it lies in, which `find` has looked at
    size = Path(os.fsdecode(member.file.filename)).stat().st_size
    if member.nbytes > EXPANSION * size:
        raise UserError(
            f"{path}: not a readable HDF5 file ({key} claims the shape {member.shape}, "
            f"{member.nbytes:,} bytes, in a file of {size:,})"
        )


def from_rows(arrays: Mapping[str, np.ndarray], episode_limit: int | None, source: str) -> Dataset:
    """Builds a dataset from checked rows in D4RL's layout; see `qlearning_dataset`.

    Raises:
        UserError: if there are neither `timeouts` nor a limit, or nothing but time-outs.
    """
    if "timeouts" not in arrays and episode_limit is None:
        raise UserError(f"{source}: no timeouts, and no task whose episode limit could stand in for them")
    return from_transitions(qlearning_dataset(arrays, episode_limit), source)


def qlearning_dataset(arrays: Mapping[str, np.ndarray], episode_limit: int | None) -> dict[str, np.ndarray]:
    """D4RL's function of that name with `terminate_on_end=False`, without its loop over rows.

    Row i becomes (o_i, a_i, r_i, terminal_i, o_{i+1}). A row with a time-out is dropped, as the next row is
    another episode's; so is the last row. A terminal row stays: its mask hides the next observation.

    Source: `d4rl.qlearning_dataset`, D4RL 1.1.
    Args:
        arrays: [N, O] observations, [N, A] actions, [N] rewards, terminals and, optionally, timeouts.
        episode_limit: steps; used only where there are no timeouts, to count them out.
    Returns:
        the M < N rows kept: observations, actions, next_observations, rewards; and terminals as bool.
    """
    terminals = arrays["terminals"] != 0
    if "timeouts" in arrays:
        timeouts = arrays["timeouts"] != 0
    else:
        assert episode_limit is not None
        timeouts = counted_timeouts(terminals, episode_limit)
    kept = np.flatnonzero(~timeouts[:-1])
    return {
        "observations": arrays["observations"][kept],
        "actions": arrays["actions"][kept],
        "next_observations": arrays["observations"][kept + 1],
        "rewards": arrays["rewards"][kept],
        "terminals": terminals[kept],
    }


def counted_timeouts(terminals: np.ndarray, episode_limit: int) -> np.ndarray:
    """Returns bool[N]: the rows at which D4RL's step counter stands at the limit.

    The counter goes on from 0 after a time-out but from 1 after a terminal, because D4RL resets it before it
    counts the terminal row: an episode after a terminal is thought one step longer than it is.
    """
    starts = np.append(0, np.flatnonzero(terminals[:-1]) + 1)
    counter = np.empty(len(terminals), np.int64)
    first = 0
    for start, stop in zip(starts, np.append(starts[1:], len(terminals)), strict=True):
        counter[start:stop] = np.arange(first, first + stop - start) % episode_limit
        first = 0 if counter[stop - 1] == episode_limit - 1 else 1
    return counter == episode_limit - 1
