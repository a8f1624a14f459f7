"""Finds arrays of an HDF5 file that are stored in other files, before HDF5 opens those.

A link may lead into another file. An array's bytes may lie in plain files (external storage), or be those of
other files' arrays (a virtual dataset). Such a file may be secret, or a pipe, on which opening blocks. And if
the source of a virtual dataset is missing, HDF5 returns zeros.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py

from xql_jax.data.dataset import brief
from xql_jax.errors import UserError

MOST_LINKS = 16  # that are followed for one array, as in HDF5 itself
OWN_FILE = "."  # a virtual dataset's name for the file that it is in
UNLIMITED = h5py.h5f.UNLIMITED


def find(file: h5py.File, name: str, external_data: bool) -> h5py.Dataset | h5py.Group | None:
    """Returns what the file has under a name, or None.

    Args:
        file: an open file.
        name: of an array or a group, from the root.
        external_data: whether it may lie in other files.
    Raises:
        UserError: if it lies in other files but may not; if one of those files is missing or too short, or
            lacks the source of a virtual dataset; or if it is behind too many links. An external link to
            something that the other file lacks counts as None.
    """
    found = _resolve(file, name, _Search(Path(os.fsdecode(file.filename)), name, external_data), MOST_LINKS)
    return file[name] if found else None  # through the links as HDF5 follows them


class _Search:
    """The array that is looked for, and whether it may lie in other files."""

    def __init__(self, path: Path, key: str, external_data: bool):
        self.path = path  # the file that the user named
        self.key = key
        self.external_data = external_data
        self.checked: set[tuple[str, str]] = set()  # complete virtual datasets, by file and name

    def elsewhere(self, how: str, name: str) -> None:
        """Called before another file is opened; raises UserError if that is not allowed."""
        if not self.external_data:
            raise self.refusal(
                f"lies in another file, {brief(name)} ({how}): --external_data reads it, if you trust both"
            )

    def refusal(self, why: str) -> UserError:
        return UserError(f"{self.path}: {brief(self.key)} {why}")


def _resolve(group: h5py.Group, name: str, search: _Search, links: int) -> bool:
    """Returns whether a group has an object of that name; raises UserError as `find`."""
    here: h5py.Group | h5py.Dataset = group.file if name.startswith("/") else group
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts):
        if not isinstance(here, h5py.Group):
            return False
        link = here.get(part, getlink=True)
        if link is None:
            return False
        if isinstance(link, h5py.HardLink):
            here = here[part]
            continue
        if links == 0:
            raise search.refusal(f"is behind more than {MOST_LINKS} links")
        rest = "/".join([link.path, *parts[number + 1 :]])
        if isinstance(link, h5py.SoftLink):
            return _resolve(here, rest, search, links - 1)
        search.elsewhere("external link", link.filename)
        prefixes = os.environ.get("HDF5_EXT_PREFIX", "").split(":")
        return _resolve_in(here.file, link.filename, prefixes, rest, search, links - 1)
    if isinstance(here, h5py.Dataset):
        _check_storage(here, search, links)
    return True


def _resolve_in(
    file: h5py.File, other: str, prefixes: Iterable[str], name: str, search: _Search, links: int
) -> bool:
    """Like `_resolve`, but in another file, which is given by the name that HDF5 stores for it."""
    path = _file_at(_places_of_file(file, other, prefixes), other, search)
    with h5py.File(path, "r") as opened:
        return _resolve(opened, f"/{name}", search, links)


def check_storage(array: h5py.Dataset, name: str, external_data: bool) -> None:
    """Raises UserError, as `find` does, if an array in the file itself has its bytes in other files."""
    _check_storage(array, _Search(Path(os.fsdecode(array.file.filename)), name, external_data), MOST_LINKS)


def _check_storage(array: h5py.Dataset, search: _Search, links: int) -> None:
    # The shape is not asked for: for a virtual dataset without bounds, HDF5 would open the sources.
    if array.is_virtual:
        _check_sources(array, search, links)
    elif array.external:
        _check_plain_files(array, search)


def _check_sources(array: h5py.Dataset, search: _Search, links: int) -> None:
    own = array.file.filename, array.name
    if own in search.checked:  # checked as another's source; else a file could force any number of checks
        return
    for source in array.virtual_sources():
        if source.file_name != OWN_FILE:
            search.elsewhere("virtual dataset", source.file_name)
        named = brief(f"{source.file_name}:{source.dset_name}")
        if "%" in named:
            raise search.refusal(f"names its sources by a pattern, {named}")
        if links == 0:
            raise search.refusal(f"is behind more than {MOST_LINKS} links")
        if source.file_name == OWN_FILE:
            found = _resolve(array.file, f"/{source.dset_name}", search, links - 1)
        else:
            prefixes = [os.environ.get("HDF5_VDS_PREFIX", "")]
            place = source.file_name, prefixes, source.dset_name
            found = _resolve_in(array.file, *place, search, links - 1)
        if not found:
            raise search.refusal(f"is a virtual dataset whose source is missing, {named}")
    search.checked.add(own)


def _check_plain_files(array: h5py.Dataset, search: _Search) -> None:
    left = array.nbytes
    for name, offset, size in array.external:
        search.elsewhere("external storage", name)
        path = _file_at(_places_of_storage(array.file, name), name, search)
        used = left if size == UNLIMITED else min(left, size)
        if path.stat().st_size < offset + used:
            raise search.refusal(f"has its bytes in {brief(path)}, which ends before they do")
        left -= used


def _file_at(places: Iterable[Path], name: str, search: _Search) -> Path:
    """Returns the first path that exists, as HDF5 does; UserError if none exists or one is not a file."""
    there = [place for place in places if place.exists()]
    if not there:
        raise search.refusal(f"lies in another file, {brief(name)}, which is missing")
    for place in there:
        if not place.is_file():
            raise search.refusal(f"lies in {brief(place)}, which is not a file")
    return there[0]


def _places_of_file(file: h5py.File, name: str, prefixes: Iterable[str]) -> Iterator[Path]:
    """Yields where HDF5 looks for the file of an external link or of a virtual dataset's source, in order."""
    own = Path(os.fsdecode(file.filename)).absolute()
    if Path(name).is_absolute():
        yield Path(name)
        name = Path(name).name  # an absolute path that does not exist: its last part is looked for
    yield from (_with_origin(prefix, own) / name for prefix in prefixes if prefix)
    yield own.parent / name
    yield Path(name)
    yield own.resolve().parent / name


def _places_of_storage(file: h5py.File, name: str) -> Iterator[Path]:
    """Yields where HDF5 looks for a plain file: in the folder of its variable, else in the current one."""
    own = Path(os.fsdecode(file.filename)).absolute()
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "")
    yield _with_origin(prefix, own) / name


def _with_origin(prefix: str, own: Path) -> Path:
    return Path(prefix.replace("${ORIGIN}", str(own.parent)))
