"""Downloads over HTTP: resumed after interruptions, checked, and made once if several runs need a file."""

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

# sha256 by file name, of files as D4RL serves them. Of others, only size and HDF5 structure are checked.
CHECKSUMS = {
    "mini_kitchen_microwave_kettle_light_slider-v0.hdf5": (  # kitchen-complete-v0
        "cd797c38cd52dfbe3f960cef73935cc724847abd189e47a703a7a2315ed60a81"
    ),
}
LOG = logging.getLogger(__name__)
SYNC_EVERY = 64 << 20  # bytes
HEAD = 1 << 20  # bytes; enough to recognise an HDF5 file
# Limits for a file whose size the server does not state, because it might never end:
MOST_UNTOLD = 16 << 30  # bytes
LEFT_FREE = 512 << 20  # bytes that stay free on the disk


class _Useless(UserError):
    """Raised if what has been received is not the wanted file, so that resuming cannot help."""


def download(url: str, path: Path, patience: Patience = PATIENCE) -> None:
    """Downloads an HDF5 file to `path`, unless it exists.

    Bytes received are kept beside it as `.part`; after an interruption, this run or a later one continues
    from there. `.part.json` records what identifies the file on the server, and how many bytes are safely on
    disk. `path` appears only when it is complete, and survives a loss of power. If several processes need the
    file, one downloads it; the others wait and use it.

    Args:
        url: http:// or https://; a user and a password in it are neither shown nor stored.
        path: where the file goes; its folder is created.
        patience: how long to wait for the server, and how often to ask it.
    Raises:
        UserError: if the address is invalid, the server refuses, fails, stalls or is slower than `patience`
            allows, what it sends is not the file, or the folder cannot be written. Each message says what the
            user can do.
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
        raise UserError(
            f"{path}: cannot write the download of {shown}: {reason}; make room or give permission there, or "
            "set D4RL_DATASET_DIR to another folder"
        ) from error


class _Part:
    """A partly received file, and what tells whether the server still has the same one."""

    def __init__(self, path: Path, url: str):
        self.target = path
        self.path = path.with_name(path.name + ".part")
        self.url = url
        self.shown = without_password(url)
        self.type = "a file of unknown type"
        self._about = path.with_name(path.name + ".part.json")

    @property
    def size(self) -> int:
        """Size in bytes; 0 for anything but a regular file: a link, say, is not followed but replaced."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def validator(self) -> str | None:
        """Returns the ETag or date of the file that the received bytes belong to; None if it is not known."""
        about = self.about()
        return _fit(about.get("validator")) if self.size and about.get("url") == self.shown else None

    def about(self) -> dict[str, Any]:
        return read_json(self._about)

    def start(self, validator: str | None, total: int | None) -> None:
        # Unlink first, so that bytes of another file never lie beside this file's `.part.json`.
        self.path.unlink(missing_ok=True)
        self.path.touch(exist_ok=False)
        self._write_about({"url": self.shown, "validator": validator, "total": total, "synced": 0})

    def keep(self) -> None:
        """Flushes what has been received to disk, then records how much that is."""
        size = self.size
        sync(self.path)
        if about := self.about():
            self._write_about({**about, "synced": size})

    def cut_to_synced(self) -> None:
        """Drops what was received after the last `keep`: a loss of power may have turned it into zeros."""
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
            part.remove()  # it cannot be resumed, and would only fill the disk
        raise
    part.finish()


def _receive_patiently(part: _Part, patience: Patience) -> None:
    """Requests the file until the part is complete; UserError after too many attempts without progress."""
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
    """Makes one request, for the file or its missing rest; returns when the part is complete.

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
    """Prepares the part for the response's bytes; returns the file's size in bytes, None if not stated."""
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
    if status == 200:  # the whole file: asked for, or no ranges are supported, or it has changed
        total = _number(response.headers.get("Content-Length", ""))
        _check_space(part, total)
        etag = response.headers.get("ETag", "")  # a weak one, W/"...", does not promise equal bytes
        part.start(_fit(etag if etag.startswith('"') else response.headers.get("Last-Modified")), total)
        return total
    answer = f"the server answers {status} {quoted(response.reason or '')}".rstrip()
    if status in (408, 425, 429) or status >= 500:
        raise Passing(answer)
    raise UserError(f"{part.shown}: {answer}; {_remedies(part)}")


def _append(part: _Part, pieces: Iterable[bytes], total: int | None) -> None:
    """Writes the received pieces to the part; stops once there are more than `total` bytes."""
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
    """Returns the first byte's position and the whole file's size; None for what is not stated."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", text)
    return (_number(match[1] or ""), _number(match[2])) if match else (None, None)


def _number(text: str) -> int | None:
    """Returns a number of bytes; None if it is not a number, or larger than any disk."""
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None


def _fit(validator: object) -> str | None:
    """Returns an ETag or date if it can be sent back to the server, else None."""
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
    """Raises _Useless if a file of unknown size becomes too large, or the disk too full."""
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
    """Raises _Useless if the part is not an HDF5 file, or has another checksum than the file of that name."""
    _check_kind(part)
    try:
        h5py.File(part.path, "r").close()  # it fails if the file is shorter than when it was written
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
