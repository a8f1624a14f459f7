"""A run's records: config.json, by which a folder is a run's, and summary.json."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from xql_jax.errors import Damaged
from xql_jax.files import read_record, with_numbers
from xql_jax.types import Json

LOCK = ".lock"  # a file that a run holds as long as it lives


def defining(content: Json) -> Json:
    """Returns the entries of config.json that define the run: its numbers depend on no other."""
    return {name: content[name] for name in content.get("defining", ()) if name in content}


def read_summary(file: Path, run: str) -> Json:
    """Returns the content of the run's summary.json, in which scores that are not finite are floats again.

    Raises the errors of `read_record`, and Damaged if the file belongs to another run.
    """
    summary = read_record(file)
    if summary.get("run") != run:
        raise Damaged(f"{file}: of another run, {summary.get('run')}; this one is {run}")
    return with_numbers(summary)


def run_folders(root: Path) -> Iterator[Path]:
    """Yields the folders below `root` that have a config.json, damaged runs included.

    Follows symbolic links. A folder that several paths lead to is visited once.
    """
    visited = set()
    for folder, below, files in os.walk(root, followlinks=True):
        below.sort()
        if (place := os.path.realpath(folder)) in visited:
            below.clear()
            continue
        visited.add(place)
        if "config.json" in files:
            below.clear()  # there are no runs inside a run
            yield Path(folder)


def as_text(value: object) -> str:
    """Returns a setting as text for showing and comparing; equal numbers give the same text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.9g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def digests_of(stamps: Sequence[Sequence[object]] | None) -> list[object]:
    """Returns the digests of data files, without the files' names."""
    return [file_digest for *_, file_digest in stamps or ()]
