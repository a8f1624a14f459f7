"""Collection of a dataset: made by a policy, or taken from the replay buffer of an online run."""

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xql_jax.data.rows import (
    Metadata,
    Rows,
    ends_of,
    joined_rows,
    read_rows,
    whole_returns_of,
    write_hdf5,
    write_minari,
)
from xql_jax.errors import UserError, needing
from xql_jax.files import sync
from xql_jax.outputs import check_output, unfinished_name, writing_output
from xql_jax.runs.machine import Run, versions
from xql_jax.runs.references import ReferenceReturns
from xql_jax.runs.sources import open_source
from xql_jax.runs.tool_settings import CollectionSettings
from xql_jax.tasks import referenced

SUFFIXES = (".hdf5", ".h5")
NOT_OF_THE_DATA = ("output", "append", "tqdm", "dry_run", "format")  # settings that do not change the rows
SHARED = ("env_name", "environment", "versions", "random_return", "expert_return")  # metadata of a whole file


class CollectionRun(Run):
    """Makes one dataset, or adds to it; `run` returns a summary of the new rows."""

    settings: CollectionSettings

    def open(self) -> None:
        settings = self.settings
        self.source = open_source(settings)
        place = self.source.place
        self.references = ReferenceReturns(settings, settings.expert, place, settings.member, settings.seed)
        self.output = _check_output(settings)
        self.before = self._rows_before()

    def _rows_before(self) -> tuple[Rows, Metadata] | None:
        """Reads what --append adds to; UserError if it is of another task."""
        if not (self.settings.append and self.output.exists()):
            return None
        rows, metadata = read_rows(self.output)
        name = self.source.place.task.name
        if metadata.get("env_name") != name or "command" not in metadata:
            raise UserError(f"--append: {self.output} is no dataset of {name} by experiments/collect.py")
        return rows, metadata

    def plan(self) -> list[str]:
        """Describes, in lines, what `run` will do, without doing it."""
        behind = f", behind {len(self.before[0]['rewards']):,} transitions" if self.before else ""
        return [
            f"task: {self.source.place.task.name}",
            self.source.plan,
            f"reference returns: {self.references.plan()}",
            f"output: {self.output} ({self.settings.format}{behind})",
        ]

    def run(self) -> dict[str, Any]:
        source, references = self.source, self.references.measure()
        rows = source.rows()
        task = referenced(source.place.task, references)
        returns = whole_returns_of(rows, task.episode_limit, source.cuts_episodes)
        summary = {
            "transitions": len(rows["rewards"]),
            "episodes": int(ends_of(rows).sum()),
            "mean_return": float(returns.mean()),
        }
        metadata: Metadata = {
            "env_name": task.name,
            "environment": json.dumps(source.place.environment, sort_keys=True),
            "versions": json.dumps(versions(), sort_keys=True),
            "command": command_of(self.settings),
            **source.metadata,
            **summary,
            **(references._asdict() if references else {}),
        }
        terminals, score = int(rows["terminals"].sum()), float(task.normalized_score(returns).mean())
        if self.before:
            rows = joined_rows([self.before[0], rows])
            metadata = joined_metadata(self.before[1], metadata)
        if self.settings.format == "minari":
            with _writing_folder(self.output) as unfinished:
                write_minari(unfinished, self.output.name, rows, metadata)
        else:
            with writing_output("output", self.output) as unfinished:
                write_hdf5(unfinished, rows, metadata)
        return {**summary, "output": str(self.output), "terminals": terminals, "mean_score": score}


def joined_metadata(before: Metadata, new: Metadata) -> Metadata:
    """Returns the metadata of a file to which rows were added: lists with one entry per command."""
    joined = {**before, **{key: new[key] for key in SHARED if key in new}}
    for key in new.keys() - set(SHARED):
        old = before.get(key, [])
        joined[key] = [*(old if isinstance(old, list) else [old]), new[key]]
    return joined


def command_of(settings: CollectionSettings) -> str:
    """Returns the command line that makes the same rows; it leaves out where they are written."""
    words = ["collect.py"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in NOT_OF_THE_DATA or value == field.default:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{field.name}" if each is True else f"--{field.name}={each}" for each in values]
    return shlex.join(words)


def _check_output(settings: CollectionSettings) -> Path:
    """Returns the path to write to; raises UserError if it cannot be written, or exists without --append."""
    if not settings.output:
        raise UserError("give --output: the file or folder to write")
    is_folder = settings.format == "minari"
    if is_folder:
        if settings.append:
            raise UserError("--append adds to an HDF5 file: leave out --format=minari")
        with needing("--format=minari", "minari"):
            import minari  # noqa: F401  (so that nothing is collected in vain)
    policies = (settings.policy, *settings.expert, settings.replay)
    inputs = [Path(name).expanduser() for name in policies if name]
    path = check_output("output", settings.output, () if is_folder else SUFFIXES, inputs)
    if os.path.lexists(path) and not settings.append:
        raise UserError(f"--output={path}: exists already: add to it by --append, or give another name")
    return path


@contextlib.contextmanager
def _writing_folder(path: Path) -> Iterator[Path]:
    """Like `writing_output`, for a folder."""
    unfinished = path.with_name(unfinished_name(path))
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        for part in (*unfinished.rglob("*"), unfinished):
            sync(part)
        os.rename(unfinished, path)
        sync(path.parent)
    except OSError as error:
        raise UserError(f"--output={path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
