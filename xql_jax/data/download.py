"""Files over HTTP: resumed, checked, and fetched once however many runs want them."""

import hashlib
import json
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import requests
import tqdm

from xql_jax.data.web import PATIENCE, Hopeless, Passing, Patience, Transfer, quoted, without_password
from xql_jax.errors import UserError
from xql_jax.files import locked_in_turn, read_json, replacing, sync

# sha256 by file name, of files as D4RL serves them; others are checked by size and as HDF5 alone.
CHECKSUMS = {
    "mini_kitchen_microwave_kettle_light_slider-v0.hdf5": (  # kitchen-complete-v0
        "cd797c38cd52dfbe3f960cef73935cc724847abd189e47a703a7a2315ed60a81"
    ),
}
LOG = logging.getLogger(__name__)
SYNC_EVERY = 64 << 20  # bytes
HEAD = 1 << 20  # bytes, in which an HDF5 file shows that it is one
# A file whose size the server does not tell may have no end:
MOST_UNTOLD = 16 << 30  # bytes
LEFT_FREE = 512 << 20  # bytes on the disk


class _Useless(UserError):
    """What has been received is not the file, and will not become it."""


def download(url: str, path: Path, patience: Patience = PATIENCE) -> None:
    """Fetches an HDF5 file to `path`, unless it is there.

    What has been received is kept beside it as `.part`, and is gone on with after an interruption, in this
    run or a later one; what the server said of the file, to know it again, and how much of it the disk has
    for certain, as `.part.json`. `path` appears whole, and stays so after a loss of power. Of several
    processes one fetches, the others wait and use its file.

    Args:
        url: http:// or https://; a user and a password in it are neither shown nor stored.
        path: of the file; its folder is made.
        patience: with the server.
    Raises:
        UserError: if the address is none, the server refuses, fails, stalls or is slow beyond `patience`,
            what it sends is not the file, or the folder cannot be written. All say what the user can do.
    """
    if path.exists():
        return
    shown = without_password(url)
    if not re.match(r"https?://[^/]", url):
        raise UserError(f"{shown!r} is not the address of a file: it must begin with http:// or https://")
    if shown != url and not re.match(r"https?://[^/?#\\]*@", url):
        raise UserError(
            f"{shown!r} is not the address of a file: write / ? and # in a password as %2F %3F %23"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(path, url)
        with locked_in_turn(path.with_name(path.name + ".lock"), "downloading it", lambda: part.size):
            if not path.exists():  # it may have come while this process waited
                _fetch(part, patience)
    except OSError as error:
        where = "" if error.filename in (None, str(path)) else f" ({error.filename})"
        reason = f"{error.strerror or error}{where}"
        raise UserError(f"{path}: cannot write the download of {shown}: {reason}") from error


class _Part:
    """What has been received of a file, and what tells whether the server still has the same one."""

    def __init__(self, path: Path, url: str):
        self.target = path
        self.path = path.with_name(path.name + ".part")
        self.url = url
        self.shown = without_password(url)
        self.type = "a file of unknown type"
        self._about = path.with_name(path.name + ".part.json")

    @property
    def size(self) -> int:
        """In bytes; 0 for a link, or what else may lie there: it is not followed, and is replaced."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def validator(self) -> str | None:
        """Returns the ETag or the date of the file that the bytes are of; None if there are none."""
        about = self.about()
        return _fit(about.get("validator")) if self.size and about.get("url") == self.shown else None

    def about(self) -> dict[str, Any]:
        return read_json(self._about)

    def start(self, validator: str | None, total: int | None) -> None:
        # First: there are never bytes of another file beside what is said of this one.
        self.path.unlink(missing_ok=True)
        self.path.touch(exist_ok=False)
        self._write_about({"url": self.shown, "validator": validator, "total": total, "synced": 0})

    def keep(self) -> None:
        """Has the disk take what has been received, then notes that it has."""
        size = self.size
        sync(self.path)
        if about := self.about():
            self._write_about({**about, "synced": size})

    def cut_to_synced(self) -> None:
        """Drops what was received after the last `keep`: a loss of power may have made zeros of it."""
        synced = self.about().get("synced")
        synced = synced if isinstance(synced, int) and synced > 0 else 0
        if self.size > synced:
            os.truncate(self.path, synced)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def finish(self) -> None:
        sync(self.path)
        os.replace(self.path, self.target)
        sync(self.target.parent)
        self._about.unlink(missing_ok=True)

    def _write_about(self, about: dict[str, Any]) -> None:
        with replacing(self._about, self._about.name + ".tmp") as unfinished:
            unfinished.write_text(json.dumps(about))
            sync(unfinished)
        sync(self._about.parent)


def _fetch(part: _Part, patience: Patience) -> None:
    part.cut_to_synced()
    resumed = f", going on after {part.size / 1e6:,.1f} MB" if part.validator() else ""
    LOG.info(f"downloading {part.shown} to {part.target}{resumed}")
    try:
        _receive_patiently(part, patience)
        _check(part)
    except BaseException as error:
        may_never_fit = isinstance(error, OSError) and part.about().get("total") is None
        if part.validator() is None or isinstance(error, _Useless) or may_never_fit:
            part.remove()  # nobody will go on with it: it would but fill the disk
        raise
    part.finish()


def _receive_patiently(part: _Part, patience: Patience) -> None:
    """Asks the server again and again, as long as it gets on or may yet; returns when the part is whole."""
    most, failures, pause, since = part.size, 0, patience.pause_seconds, time.monotonic()
    while True:
        try:
            return _receive(part, patience)
        except Passing as error:
            seconds, gained = time.monotonic() - since, part.size - most
            if part.validator() and gained > 0 and gained >= patience.least_rate * seconds:
                failures, pause = 0, patience.pause_seconds
            else:
                failures += 1
            most, since = max(most, part.size), time.monotonic()
            if failures == patience.attempts:
                kept = f"{part.size:,} bytes are kept, the next run goes on from there; "
                raise UserError(
                    f"{part.shown}: {error}; {kept if part.validator() else ''}{_remedies(part)}"
                ) from None
            LOG.info(f"{part.shown}: {error}; trying again in {pause:g} s")
            time.sleep(pause)
            pause *= 2


def _remedies(part: _Part) -> str:
    return f"put the file at {part.target} by hand, or name a mirror with --dataset_url=ADDRESS"


def _receive(part: _Part, patience: Patience) -> None:
    """One request, for the file or what is missing of it; returns when all of it is there.

    Raises:
        Passing: if the server stalls, is slow, breaks off, or is overloaded.
        UserError: if it refuses.
    """
    headers = {"Accept-Encoding": "identity"}  # so that lengths are those of the file
    validator = part.validator()
    if validator:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": validator}
    try:
        with Transfer(part.url, headers, patience) as transfer:
            total = _prepare(part, transfer.answer(), validator)
            if total is None or part.size < total:
                try:
                    _append(part, transfer.pieces(), total)
                finally:
                    part.keep()
    except Hopeless as error:
        raise UserError(f"{part.shown}: cannot be fetched ({error}); {_remedies(part)}") from error
    if total is not None and part.size != total:
        received = part.size
        if received > total:
            part.remove()
        raise Passing(f"the server has sent {received:,} bytes of a file of {total:,}")


def _prepare(part: _Part, response: requests.Response, validator: str | None) -> int | None:
    """Makes the part ready for the response's bytes; returns the file's size in bytes, None if not told."""
    status = response.status_code
    part.type = quoted(response.headers.get("Content-Type", part.type))
    known = part.about().get("total")
    start, total = _content_range(response.headers.get("Content-Range", ""))
    if status == 416 and validator:
        if total is not None and part.size == known == total:
            return known  # the last run was stopped between the last byte and the check
        part.remove()
        raise Passing("the server has another file than before")
    if status == 206 and validator:
        if total is None or start != part.size or known not in (None, total):
            part.remove()
            raise Passing("the server has sent another part of the file than it was asked for")
        _check_space(part, total)
        return total
    if status == 200:  # the whole: asked for, or the server knows no ranges, or its file has changed
        total = _number(response.headers.get("Content-Length", ""))
        _check_space(part, total)
        etag = response.headers.get("ETag", "")  # a weak one, W/"...", does not stand for every byte
        part.start(_fit(etag if etag.startswith('"') else response.headers.get("Last-Modified")), total)
        return total
    answer = f"the server answers {status} {quoted(response.reason or '')}".rstrip()
    if status in (408, 425, 429) or status >= 500:
        raise Passing(answer)
    raise UserError(f"{part.shown}: {answer}; {_remedies(part)}")


def _append(part: _Part, pieces: Iterable[bytes], total: int | None) -> None:
    """Writes what the server sends, a little more than the whole at most."""
    progress = tqdm.tqdm(
        desc=part.target.name, total=total, initial=part.size, unit="B", unit_scale=True, disable=None
    )
    synced, looked_at = part.size, part.size >= HEAD
    with open(os.open(part.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW), "ab") as file, progress:
        for piece in pieces:
            file.write(piece)
            progress.update(len(piece))
            if not looked_at and file.tell() >= HEAD:
                file.flush()
                _check_kind(part)
                looked_at = True
            if file.tell() - synced >= SYNC_EVERY:
                file.flush()
                part.keep()
                synced = file.tell()
                if total is None:
                    _check_end(part)
            if total is not None and file.tell() > total:
                break


def _content_range(text: str) -> tuple[int | None, int | None]:
    """The first byte and the size of the whole file, as far as they are told."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", text)
    return (_number(match[1] or ""), _number(match[2])) if match else (None, None)


def _number(text: str) -> int | None:
    """A number of bytes; None for what is none, or is more than any disk has."""
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None


def _fit(validator: object) -> str | None:
    """An ETag or date, if it can be sent back to the server."""
    if isinstance(validator, str) and re.fullmatch(r"[!-~][ -~]{,199}", validator):
        return validator
    return None


def _check_space(part: _Part, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and free + part.size < total:
        raise UserError(
            f"{part.path.parent}: the file needs {total / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free; "
            "make room, or set D4RL_DATASET_DIR to another folder"
        )


def _check_end(part: _Part) -> None:
    """Raises _Useless if a file of which nobody knows the size is taking more than it may."""
    free = shutil.disk_usage(part.path.parent).free
    if part.size > MOST_UNTOLD or free < LEFT_FREE:
        raise _Useless(
            f"{part.shown}: the server does not say how large the file is; after {part.size / 1e6:,.0f} MB, "
            f"with {free / 1e6:,.0f} MB left on the disk, there was no end to it; {_remedies(part)}"
        )


def _check_kind(part: _Part) -> None:
    if not h5py.is_hdf5(part.path):
        raise _Useless(f"{part.shown}: what the server sends is not HDF5 but {part.type}; {_remedies(part)}")


def _check(part: _Part) -> None:
    """Raises _Useless if what has been received is no HDF5 file, or not the one of that name."""
    _check_kind(part)
    try:
        h5py.File(part.path, "r").close()  # knows the length that the file was written with
    except OSError as error:
        damaged = f"what the server sends is a damaged HDF5 file ({error})"
        raise _Useless(f"{part.shown}: {damaged}; {_remedies(part)}") from error
    if part.target.name not in CHECKSUMS:
        return
    with part.path.open("rb") as file:
        found, known = hashlib.file_digest(file, "sha256").hexdigest(), CHECKSUMS[part.target.name]
    if found != known:
        other = f"what the server sends has the sha256 {found}, {part.target.name} has {known}"
        raise _Useless(f"{part.shown}: {other}; {_remedies(part)}")
