"""The folder of dataset files, which is D4RL's own, and downloads into it."""

import os
import re
import sys
from pathlib import Path

import h5py

from xql_jax.data.dataset import brief
from xql_jax.errors import UserError
from xql_jax.tasks import Task

# sha256 by file name, of files as D4RL serves them. Of others, only size and HDF5 structure are checked.
CHECKSUMS = {
    "mini_kitchen_microwave_kettle_light_slider-v0.hdf5": (  # kitchen-complete-v0
        "cd797c38cd52dfbe3f960cef73935cc724847abd189e47a703a7a2315ed60a81"
    ),
}
TIMEOUT = (10.0, 60.0)  # seconds: to connect, and without a byte
ATTEMPTS = 3


def cache_folder() -> Path:
    """Returns `$D4RL_DATASET_DIR`, else `~/.d4rl/datasets`; it need not exist."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()


def cached_file(task: Task) -> Path:
    """Returns the path of the task's dataset, under D4RL's file name or that of a generated file."""
    name = task.dataset_url.rsplit("/", 1)[1] if task.dataset_url else f"{task.name}.hdf5"
    return cache_folder() / name


def download_file(url: str, path: Path) -> None:
    """Downloads an HDF5 file to `path`, unless it exists. It appears there only when it is whole.

    Raises:
        UserError: if the address is invalid, the server cannot be reached or fails, what it sends is not the
            file, or the folder cannot be written. The message says what the user can do.
    """
    if path.exists():
        return
    if not re.match(r"https?://[^/]", url):
        raise UserError(f"{url!r} is not the address of a file: it must begin with http:// or https://")
    import pooch  # not at the top, because most runs find their data on disk

    def fetch(address: str, unfinished: str, pup: object) -> None:
        receive = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
        receive(address, unfinished, pup)
        h5py.File(unfinished, "r").close()  # fails if it is not HDF5, or cut off

    pooch.get_logger().setLevel("WARNING")
    known = {path.name: CHECKSUMS.get(path.name)}
    server = pooch.create(
        path.parent, base_url="", registry=known, urls={path.name: url}, retry_if_failed=ATTEMPTS - 1
    )
    try:
        server.fetch(path.name, downloader=fetch)
        path.chmod(0o644)  # it was a temporary file, which is private
    except (OSError, ValueError) as error:
        said = re.sub(r"//[^/@\s]*@", "//***@", f"{url}: {brief(error)}")
        raise UserError(
            f"{path} cannot be downloaded from {said}; put the file there by hand, name a mirror with "
            "--dataset_url=ADDRESS, or another folder with D4RL_DATASET_DIR"
        ) from error
