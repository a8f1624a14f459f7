"""All runs below some folders, and which of them cannot be read."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xql_jax.errors import UserError
from xql_jax.files.paths import as_written, located
from xql_jax.runs.load import Run, load_run


class LeftOut(NamedTuple):
    """A run, or a score, that is not used, and why."""

    run: str
    reason: str


def run_folders(root: Path) -> Iterator[Path]:
    """Yields the folders below `root` that have a config.json, damaged runs included; follows links."""
    visited = set()
    for folder, below, files in os.walk(root, followlinks=True):
        below.sort()
        place = os.path.realpath(folder)
        if place in visited or "config.json" in files:  # there are no runs inside a run
            below.clear()
        if place not in visited and "config.json" in files:
            yield Path(folder)
        visited.add(place)


def find_runs(
    folders: Sequence[str], read: Callable[[Run], object] = lambda run: run.summary
) -> tuple[list[Run], list[LeftOut]]:
    """Opens all runs below some folders, unfinished ones, too. Damaged ones are left out, with the reason.

    Args:
        folders: folders of runs, or folders that contain runs.
        read: called with each run, reads what is wanted of it: a run with which it fails is damaged.
    Returns:
        The runs by their names, which begin below the folder if there is one.
    Raises:
        UserError: if there is no such folder.
    """
    named: dict[Path, tuple[str, Path]] = {}
    for root in map(located, folders):
        if not root.is_dir():
            raise UserError(f"{root}: no such folder: name folders of runs, or folders that contain runs")
        for folder in run_folders(root):
            is_below = len(folders) == 1 and folder != root
            name = str(folder.relative_to(root)) if is_below else as_written(str(folder))
            named.setdefault(folder.resolve(), (name, folder))
    runs, left_out = [], []
    for name, folder in sorted(named.values()):
        try:
            run = load_run(folder)
            run.name = name
            read(run)
            runs.append(run)
        except UserError as error:
            reason = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), name)
            left_out.append(LeftOut(name, reason))
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            left_out.append(LeftOut(name, f"of another version ({type(error).__name__}: {error})"))
    return runs, left_out
