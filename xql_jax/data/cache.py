"""Where datasets lie: D4RL's own folder and file names, so that files that are there already are found."""

import os
from pathlib import Path

from xql_jax.tasks import Task


def cache_folder() -> Path:
    """Returns `$D4RL_DATASET_DIR`, else `~/.d4rl/datasets`; it need not exist."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()


def cached_file(task: Task) -> Path:
    """Returns the place of the task's dataset, under D4RL's file name or that of a generated one."""
    name = task.dataset_url.rsplit("/", 1)[1] if task.dataset_url else f"{task.name}.hdf5"
    return cache_folder() / name
