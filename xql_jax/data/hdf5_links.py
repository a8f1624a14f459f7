"""Arrays that an HDF5 file claims and that lie in others, found before HDF5 opens those.

A link may lead into another file, an array's bytes may lie in plain files (external storage), or be those of
other files' arrays (a virtual dataset). What is there may be secret, or a pipe, at which whoever opens it
waits; and where a virtual dataset's source is missing, HDF5 gives zeros.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from xql_jax.data.dataset import brief
from xql_jax.errors import UserError

MOST_LINKS = 16  # that are followed for one array, as in HDF5 itself
OWN_FILE = "."  # as a virtual dataset names it
UNLIMITED = h5py.h5f.UNLIMITED


def find(file: h5py.File, name: str, external_data: bool) -> h5py.Dataset | h5py.Group | None:
    """Returns what the file has under a name, or None.

    Args:
        file: open.
        name: of an array or a group, from the root.
        external_data: may it lie in other files.
    Raises:
        UserError: if it does and may not, or those files lack it.
    """
    found = _resolve(file, name, _Search(Path(os.fsdecode(file.filename)), name, external_data), MOST_LINKS)
    return file[name] if found else None  # through the links as HDF5 follows them


class _Search:
    """What is looked for, and may it lie elsewhere."""

    def __init__(self, path: Path, key: str, external_data: bool):
        self.path = path  # the file that the user named
        self.key = key
        self.external_data = external_data
        self.checked: set[tuple[str, str]] = set()  # virtual datasets, by file and name, that are whole

    def elsewhere(self, how: str, name: str) -> None:
        """Told of another file before it is opened."""
        if not self.external_data:
            raise self.refusal(
                f"lies in another file, {brief(name)} ({how}): --external_data reads it, if you trust both"
            )

    def refusal(self, why: str) -> UserError:
        return UserError(f"{self.path}: {brief(self.key)} {why}")


def _resolve(group: h5py.Group, name: str, search: _Search, links: int) -> bool:
    """Is there an object of that name, seen from a group; raises UserError as `find`."""
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
        return _resolve_in(here.file, link.filename, rest, search, links - 1)
    if isinstance(here, h5py.Dataset):
        _check_storage(here, search, links)
    return True


def _resolve_in(file: h5py.File, other: str, name: str, search: _Search, links: int) -> bool:
    """As `_resolve`, in another file, which is named as HDF5 names it."""
    path = _file_beside(file, other, search, "HDF5_EXT_PREFIX", "HDF5_VDS_PREFIX")
    with h5py.File(path, "r") as opened:
        return _resolve(opened, f"/{name}", search, links)


def check_storage(array: h5py.Dataset, name: str, external_data: bool) -> None:
    """Raises UserError, as `find` does, if an array that is a file's own has its bytes elsewhere."""
    _check_storage(array, _Search(Path(os.fsdecode(array.file.filename)), name, external_data), MOST_LINKS)


def _check_storage(array: h5py.Dataset, search: _Search, links: int) -> None:
    # Not by way of its shape: of a virtual dataset without bounds HDF5 would open the sources for that.
    if array.is_virtual:
        _check_sources(array, search, links)
    elif array.external:
        _check_plain_files(array, search)


def _check_sources(array: h5py.Dataset, search: _Search, links: int) -> None:
    own = array.file.filename, array.name
    if own in search.checked:  # as a source of several, or there would be as many ways to it as one likes
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
            found = _resolve_in(array.file, source.file_name, source.dset_name, search, links - 1)
        if not found:
            raise search.refusal(f"is a virtual dataset whose source is missing, {named}")
    search.checked.add(own)


def _check_plain_files(array: h5py.Dataset, search: _Search) -> None:
    left = array.nbytes
    for name, offset, size in array.external:
        search.elsewhere("external storage", name)
        path = _file_beside(array.file, name, search, "HDF5_EXTFILE_PREFIX")
        used = left if size == UNLIMITED else min(left, size)
        if path.stat().st_size < offset + used:
            raise search.refusal(f"has its bytes in {brief(path)}, which ends before they do")
        left -= used


def _file_beside(file: h5py.File, name: str, search: _Search, *prefixes: str) -> Path:
    """The file that HDF5 would open by this name; UserError if there is none, or another kind of thing."""
    places = [place for place in _places(file, name, *prefixes) if place.exists()]
    if not places:
        raise search.refusal(f"lies in another file, {brief(name)}, which is missing")
    for place in places:
        if not place.is_file():
            raise search.refusal(f"lies in {brief(place)}, which is not a file")
    return places[0]


def _places(file: h5py.File, name: str, *prefixes: str) -> Iterator[Path]:
    own = Path(os.fsdecode(file.filename)).absolute()
    yield Path(name)
    for variable in prefixes:
        for prefix in filter(None, os.environ.get(variable, "").split(":")):
            yield Path(prefix.replace("${ORIGIN}", str(own.parent))) / name
    for folder in (own.parent, own.resolve().parent):
        yield folder / name
        yield folder / Path(name).name  # of a path that is no longer there
