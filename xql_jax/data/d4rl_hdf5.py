"""D4RL's HDF5 files: one row per step, turned into transitions as D4RL's `qlearning_dataset` does."""

import contextlib
import dataclasses
import functools
import io
import logging
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

LOG = logging.getLogger(__name__)
REQUIRED = ("observations", "actions", "rewards", "terminals")
H5PY_ERRORS = (OSError, LookupError, RuntimeError, ValueError, TypeError)  # for damaged files
EXPANSION = 1100  # deflate expands a byte to at most 1,032
UNPACKING = 3  # a chunk is unpacked as a whole, into a buffer that doubles as it fills, beside the packed one


def read_hdf5(path: Path, episode_limit: int | None, external_data: bool = False) -> Dataset:
    """Reads a file in D4RL's layout.

    Args:
        path: the HDF5 file. If it has `next_observations`, they are ignored, as D4RL ignores them.
        episode_limit: steps, for a file without `timeouts`; None if no limit is known.
        external_data: whether its arrays may be stored in other files, see `hdf5_links`.
    Raises:
        UserError: if the file is absent or damaged, or lacks a key, or an array is unfit (see `validated`).
    """
    # The arrays get no name: it would keep them in memory beside the transitions that are made of them.
    dataset = from_rows(validated(_read_arrays(path, external_data), str(path)), episode_limit, str(path))
    return dataclasses.replace(dataset, references=read_references(path, external_data))


def read_references(path: Path, external_data: bool = False) -> References | None:
    """Returns the reference returns in the file's metadata, None if there are none.

    Raises:
        UserError: if only one of the two is there, or they are not numbers or not valid references.
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
    """Returns the arrays of a file in D4RL's layout, unread; only keys and types are checked.

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
    """Opens an HDF5 file for reading; until it is closed, errors of h5py are raised as UserError."""
    check_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except H5PY_ERRORS as error:
        raise UserError(f"{path}: not a readable HDF5 file ({brief(error)})") from error
    except MemoryError as error:
        raise UserError(f"{path}: its arrays do not fit into memory ({brief(error)})") from error


def _members(path: Path, file: h5py.File, external_data: bool) -> dict[str, h5py.Dataset]:
    # Members are opened one by one: in a damaged file, even looking at one may fail.
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
    descr = np.lib.format.dtype_to_descr(np.dtype(member.dtype.str))  # without what h5py adds for enums
    np.lib.format.write_array_header_1_0(
        header, {"descr": descr, "fortran_order": False, "shape": member.shape}
    )
    # Numbers in another file may change while this file does not; the cached copy would then be wrong.
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
    """Returns the bytes of memory that reading an array takes in addition to its own."""
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
    """Raises UserError if an array claims more bytes than the file can hold.

    A damaged file may claim any shape, and memory would be allocated for it before a byte is read.
    """
    if member.shape is None:
        raise UserError(f"{path}: {key} is empty: it has no shape")
    if member.is_virtual or member.external:
        return  # its bytes are in other files, which `find` has checked
    size = Path(os.fsdecode(member.file.filename)).stat().st_size
    if member.nbytes > EXPANSION * size:
        raise UserError(
            f"{path}: not a readable HDF5 file (it is damaged: {key} would be {member.nbytes:,} bytes of "
            f"shape {member.shape}; a file of {size:,} bytes cannot hold that, even compressed): get it again"
        )


def from_rows(
    arrays: Mapping[str, np.ndarray], episode_limit: int | None, source: str, keeps_last: bool = False
) -> Dataset:
    """Builds a dataset from checked rows in D4RL's layout; see `qlearning_dataset`.

    Warns if all rewards that are not 0 are in rows that are left out.

    Raises:
        UserError: if there are neither `timeouts` nor a limit, or if no transition is left.
    """
    if "timeouts" not in arrays and episode_limit is None:
        raise UserError(no_timeouts(source))
    dataset = from_transitions(qlearning_dataset(arrays, episode_limit, keeps_last), source)
    given, kept = (int(np.count_nonzero(x)) for x in (arrays["rewards"], np.asarray(dataset.batch.rewards)))
    warn_of_lost_rewards(given, kept, source)
    return dataset


def no_timeouts(source: str) -> str:
    """Returns the message for rows without `timeouts` if no episode limit is known."""
    return (
        f"{source}: no timeouts, and no task whose episode limit could stand in for them: give --env_name, "
        "or add an array timeouts, 1 at the last step of each episode that was cut off and 0 elsewhere"
    )


def warn_of_lost_rewards(in_rows: int, in_transitions: int, source: str) -> None:
    """Warns if some rows' rewards are not 0 but no transition's reward is; takes the numbers of both."""
    if in_rows and not in_transitions:
        LOG.warning(
            f"{source}: every reward that is not 0 ({in_rows:,} rows) is in a row that is left out: D4RL's "
            "layout leaves out time-outs and, in HDF5, the last row. Save transitions as .npz, with "
            "next_observations: then every row is kept"
        )


def qlearning_dataset(
    arrays: Mapping[str, np.ndarray], episode_limit: int | None, keeps_last: bool = False
) -> dict[str, np.ndarray]:
    """Turns rows into transitions, as D4RL's `qlearning_dataset` with `terminate_on_end=False` does.

    Row i becomes (o_i, a_i, r_i, terminal_i, o_{i+1}). A row with a time-out is dropped, because the next row
    belongs to another episode. So is the last row. A terminal row stays: its mask hides the next observation.

    Source: `d4rl.qlearning_dataset`, D4RL 1.1, here without its loop over rows.
    Args:
        arrays: [N, O] observations, [N, A] actions, [N] rewards, terminals and, optionally, timeouts.
        episode_limit: steps; used only if there are no timeouts, to find them by counting.
        keeps_last: keep the last row, too, if it is terminal; D4RL drops it. Its next observation is unknown,
            but the mask hides it, so its own observation is used.
    Returns:
        the M <= N rows kept: observations, actions, next_observations, rewards; and terminals as bool.
    """
    terminals = arrays["terminals"] != 0
    if "timeouts" in arrays:
        timeouts = arrays["timeouts"] != 0
    else:
        assert episode_limit is not None
        timeouts = counted_timeouts(terminals, episode_limit)
    left_out = rows_left_out(terminals, timeouts, keeps_last)
    kept = np.flatnonzero(~left_out)
    return {
        "observations": arrays["observations"][kept],
        "actions": arrays["actions"][kept],
        "next_observations": arrays["observations"][np.minimum(kept + 1, len(terminals) - 1)],
        "rewards": arrays["rewards"][kept],
        "terminals": terminals[kept],
    }


def rows_left_out(terminals: np.ndarray, timeouts: np.ndarray, keeps_last: bool) -> np.ndarray:
    """Returns bool[N], the rows that become no transition, see `qlearning_dataset`."""
    left_out = timeouts.copy()
    left_out[-1] |= not (keeps_last and terminals[-1])
    return left_out


def counted_timeouts(terminals: np.ndarray, episode_limit: int) -> np.ndarray:
    """Returns bool[N]: the rows at which D4RL's step counter stands at the limit.

    The counter restarts from 0 after a time-out but from 1 after a terminal, because D4RL resets it before it
    counts the terminal row. An episode after a terminal therefore counts as one step longer than it is.
    """
    starts = np.append(0, np.flatnonzero(terminals[:-1]) + 1)
    counter = np.empty(len(terminals), np.int64)
    first = 0
    for start, stop in zip(starts, np.append(starts[1:], len(terminals)), strict=True):
        counter[start:stop] = np.arange(first, first + stop - start) % episode_limit
        first = 0 if counter[stop - 1] == episode_limit - 1 else 1
    return counter == episode_limit - 1
