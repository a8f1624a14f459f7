"""Files over HTTP: resumed, checked, and fetched once however many runs want them."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import h5py
import requests
import tqdm
import urllib3

from xql_jax.errors import UserError
from xql_jax.files import read_json, sync

# sha256 by file name, of files as D4RL serves them; others are checked by size and as HDF5 alone.
CHECKSUMS = {
    "mini_kitchen_microwave_kettle_light_slider-v0.hdf5": (  # kitchen-complete-v0
        "cd797c38cd52dfbe3f960cef73935cc724847abd189e47a703a7a2315ed60a81"
    ),
}
LOG = logging.getLogger(__name__)
CHUNK = 1 << 18  # bytes
SYNC_EVERY = 64 << 20  # bytes


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to ask again."""

    connect_seconds: float = 10.0
    stall_seconds: float = 30.0  # without a byte
    attempts: int = 4  # in a row that bring nothing new
    pause_seconds: float = 1.0  # before the second attempt, doubled before each further one


class _Passing(Exception):
    """A failure that may be gone at the next attempt."""


def download(url: str, path: Path, patience: Patience = Patience()) -> None:
    """Fetches an HDF5 file to `path`, unless it is there.

    What has been received is kept beside it as `.part`, and is gone on with after an interruption, in this
    run or a later one; what the server said of the file, to know it again, and how much of it the disk has
    for certain, as `.part.json`. `path` appears whole, and stays so after a loss of power. Of several
    processes one fetches, the others wait and use its file.

    Args:
        url: http:// or https://.
        path: of the file; its folder is made.
        patience: with the server.
    Raises:
        UserError: if the address is none, the server refuses, fails or stalls beyond `patience`, what it
            sends is not the file, or the folder cannot be written. All say what the user can do.
    """
    if path.exists():
        return
    if not re.match(r"https?://[^/]", url):
        raise UserError(f"{url!r} is not the address of a file: it must begin with http:// or https://")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path):
            if not path.exists():  # it may have come while this process waited
                _fetch(url, path, patience)
    except OSError as error:
        raise UserError(f"{path}: cannot write the download of {url}: {error}") from error


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds `FILE.lock`. One that a killed process has left behind locks nobody out."""
    lock = filelock.FileLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        LOG.info(f"{path}: another process is downloading it, waiting")
        lock.acquire()
    with lock:
        lock.release()  # once for the `acquire` above
        yield


def _fetch(url: str, path: Path, patience: Patience) -> None:
    part = _Part(path, url)
    part.cut_to_synced()
    resumed = f", going on after {part.size / 1e6:,.1f} MB" if part.validator() else ""
    LOG.info(f"downloading {url} to {path}{resumed}")
    most, failures, pause = part.size, 0, patience.pause_seconds
    while True:
        try:
            _receive(part, patience)
            break
        except _Passing as error:
            if part.size > most:
                most, failures, pause = part.size, 0, patience.pause_seconds
            else:
                failures += 1
            if failures == patience.attempts:
                kept = f"{part.size:,} bytes are kept, the next run goes on from there; "
                raise UserError(
                    f"{url}: {error}; {kept if part.validator() else ''}{_remedies(path)}"
                ) from None
            LOG.info(f"{url}: {error}; trying again in {pause:g} s")
            time.sleep(pause)
            pause *= 2
    if problem := _problem_with(part):
        part.remove()
        raise UserError(f"{url}: {problem}; {_remedies(path)}")
    part.finish()


def _remedies(path: Path) -> str:
    return f"put the file at {path} by hand, or name a mirror with --dataset_url=ADDRESS"


class _Part:
    """What has been received of a file, and what tells whether the server still has the same one."""

    def __init__(self, path: Path, url: str):
        self.target = path
        self.path = path.with_name(path.name + ".part")
        self.url = url
        self.type = "a file of unknown type"
        self._about = path.with_name(path.name + ".part.json")
        self._new_about = path.with_name(path.name + ".part.json.tmp")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self) -> str | None:
        """Returns the ETag or the date of the file that the bytes are of; None if there are none."""
        about = self.about()
        return about.get("validator") if self.size and about.get("url") == self.url else None

    def about(self) -> dict:
        return read_json(self._about)

    def start(self, validator: str | None, total: int | None) -> None:
        # First: there are never bytes of another file beside what is said of this one.
        self.path.write_bytes(b"")
        self._write_about({"url": self.url, "validator": validator, "total": total, "synced": 0})

    def keep(self) -> None:
        """Has the disk take what has been received, then notes that it has."""
        size = self.size
        _sync(self.path)
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
        self._remove_about()

    def finish(self) -> None:
        _sync(self.path)
        os.replace(self.path, self.target)
        _sync(self.target.parent)
        self._remove_about()

    def _write_about(self, about: dict) -> None:
        self._new_about.write_text(json.dumps(about))
        _sync(self._new_about)
        os.replace(self._new_about, self._about)
        _sync(self._about.parent)

    def _remove_about(self) -> None:
        self._about.unlink(missing_ok=True)
        self._new_about.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    try:
        sync(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot
            raise


def _receive(part: _Part, patience: Patience) -> None:
    """One request, for the file or what is missing of it; returns when all of it is there.

    Raises:
        _Passing: if the server stalls, breaks off, or is overloaded.
        UserError: if it refuses.
    """
    headers = {"Accept-Encoding": "identity"}  # so that lengths are those of the file
    validator = part.validator()
    if validator:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": validator}
    timeout = (patience.connect_seconds, patience.stall_seconds)
    try:
        with requests.get(part.url, headers=headers, stream=True, timeout=timeout) as response:
            total = _prepare(part, response, validator)
            if total is None or part.size < total:
                try:
                    _append(part, response, total)
                finally:
                    part.keep()
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise _Passing(f"the server has sent nothing for {patience.stall_seconds:g} s") from error
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        raise _Passing(f"the connection failed ({_reason(error)})") from error
    except requests.RequestException as error:  # too many redirects, an address that makes no sense
        remedy = _remedies(part.target)
        raise UserError(f"{part.url}: cannot be fetched ({_reason(error)}); {remedy}") from error
    if total is not None and part.size != total:
        received = part.size
        if received > total:
            part.remove()
        raise _Passing(f"the server has sent {received:,} bytes of a file of {total:,}")


def _prepare(part: _Part, response: requests.Response, validator: str | None) -> int | None:
    """Makes the part ready for the response's bytes; returns the file's size in bytes, None if not told."""
    status = response.status_code
    part.type = response.headers.get("Content-Type", part.type)
    known = part.about().get("total")
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
    if status == 416 and validator:
        if match and part.size == known == int(match[2]):
            return known  # the last run was stopped between the last byte and the check
        part.remove()
        raise _Passing("the server has another file than before")
    if status == 206 and validator:
        if not match or match[1] != str(part.size) or known not in (None, int(match[2])):
            part.remove()
            raise _Passing("the server has sent another part of the file than it was asked for")
        return int(match[2])
    if status == 200:  # the whole: asked for, or the server knows no ranges, or its file has changed
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        _check_space(part, total)
        part.start(_validator(response), total)
        return total
    answer = f"the server answers {status} {response.reason}"
    if status in (408, 425, 429) or status >= 500:
        raise _Passing(answer)
    raise UserError(f"{part.url}: {answer}; {_remedies(part.target)}")


def _append(part: _Part, response: requests.Response, total: int | None) -> None:
    progress = tqdm.tqdm(
        desc=part.target.name, total=total, initial=part.size, unit="B", unit_scale=True, disable=None
    )
    with part.path.open("ab") as file, progress:
        # read1 gives what has arrived: of a connection that stalls, nothing is lost.
        synced = part.size
        while chunk := response.raw.read1(CHUNK):
            file.write(chunk)
            progress.update(len(chunk))
            if file.tell() - synced >= SYNC_EVERY:
                file.flush()
                part.keep()
                synced = file.tell()


def _validator(response: requests.Response) -> str | None:
    """An ETag that stands for every byte (a weak one does not), or the date of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _check_space(part: _Part, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and free + part.size < total:
        raise UserError(
            f"{part.path.parent}: the file needs {total / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free; "
            "make room, or set D4RL_DATASET_DIR to another folder"
        )


def _problem_with(part: _Part) -> str | None:
    name = part.target.name
    if not h5py.is_hdf5(part.path):
        return f"what the server sends is not HDF5 but {part.type}"
    try:
        h5py.File(part.path, "r").close()  # knows the length that the file was written with
    except OSError as error:
        return f"what the server sends is a damaged HDF5 file ({error})"
    if name in CHECKSUMS:
        with part.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != CHECKSUMS[name]:
            return f"what the server sends has the sha256 {found}, {name} has {CHECKSUMS[name]}"
    return None


def _reason(error: Exception) -> str:
    """The innermost cause in words, without the objects that requests and urllib3 wrap around it."""
    while isinstance(inner := (error.args or ("",))[-1], Exception) or (
        (inner := getattr(error, "reason", None)) and isinstance(inner, Exception)
    ):
        error = inner
    text = re.sub(r"^IncompleteRead\((.*)\)$", r"\1", str(error))
    return re.sub(r"^<.*?>: |^\w+\(.*?\): ", "", text) or type(error).__name__
