"""Collection of a dataset: made by policies, or taken from the replay buffer of an online run."""

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xql_jax.data.rows import Rows, ends_of, whole_returns_of
from xql_jax.data.writers import write_hdf5, write_minari
from xql_jax.errors import UserError, needing
from xql_jax.files import sync
from xql_jax.outputs import check_output, unfinished_name, writing_output
from xql_jax.runs.behaviours import Place
from xql_jax.runs.provenance import versions
from xql_jax.runs.references import ReferenceReturns
from xql_jax.runs.run import Run
from xql_jax.runs.settings import CollectionSettings
from xql_jax.runs.sources import PolicySource, ReplaySource, Source, WaypointSource
from xql_jax.tasks import Task, referenced

SUFFIXES = (".hdf5", ".h5")
NOT_OF_THE_DATA = ("output", "show_progress", "format")  # settings that do not change the data


class CollectionRun(Run):
    """Makes one dataset; `run` returns its summary, see `summary_of`."""

    settings: CollectionSettings

    def open(self) -> None:
        settings = self.settings
        self.source: Source = _kind_of_source(settings)(settings)
        place = self.source.place
        self.references = ReferenceReturns(settings, settings.expert, place, settings.member, settings.seed)
        self.output = _check_output(settings)

    def plan(self) -> list[str]:
        """Describes, in lines, what `run` will do, without doing it."""
        lines = [f"task: {self.source.place.task.name}", *self.source.plan()]
        return [
            *lines,
            f"reference returns: {self.references.plan()}",
            f"output: {self.output} ({self.settings.format})",
        ]

    def run(self) -> dict[str, Any]:
        references = self.references.measure()
        rows = self.source.rows()
        task = referenced(self.source.place.task, references)
        cuts = None if isinstance(self.source, ReplaySource) else [len(rows["rewards"]) - 1]
        summary = summary_of(rows, self.output, task, cuts)
        metadata = {
            **common_metadata(self.source.place),
            "command": command_of(self.settings),
            **self.source.metadata(),
            **{name: summary[name] for name in ("transitions", "episodes", "mean_return")},
            **(references._asdict() if references else {}),
        }
        if self.settings.format == "minari":
            with _writing_folder(self.output) as unfinished:
                write_minari(unfinished, self.output.name, rows, metadata)
        else:
            with writing_output("output", self.output) as unfinished:
                write_hdf5(unfinished, rows, metadata)
        return {"sets": [summary]}


def summary_of(rows: Rows, output: Path, task: Task, cuts: Sequence[int] | None) -> dict[str, Any]:
    """Returns the summary of a dataset: its size, and the mean return and score of its whole episodes.

    Args:
        cuts: see `whole_returns_of`.
    """
    returns = whole_returns_of(rows, task.episode_limit, cuts)
    return {
        "output": str(output),
        "transitions": len(rows["rewards"]),
        "episodes": int(ends_of(rows).sum()),
        "terminals": int(rows["terminals"].sum()),
        "mean_return": float(returns.mean()),
        "mean_score": float(task.normalized_score(returns).mean()),
    }


def common_metadata(place: Place) -> dict[str, Any]:
    """Returns the metadata that every dataset has: task, environment and versions."""
    return {
        "env_name": place.task.name,
        "environment": json.dumps(place.environment, sort_keys=True),
        "versions": json.dumps(versions(), sort_keys=True),
    }


def command_of(settings: CollectionSettings) -> str:
    """Returns the command line that makes the same data; it leaves out where they are written."""
    words = ["collect.py"]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in NOT_OF_THE_DATA or value == field.default:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{field.name}" if each is True else f"--{field.name}={each}" for each in values]
    return shlex.join(words)


def _kind_of_source(settings: CollectionSettings) -> Callable[[CollectionSettings], Source]:
    if settings.waypoints:
        return WaypointSource
    return ReplaySource if settings.replay else PolicySource


def _check_output(settings: CollectionSettings) -> Path:
    """Returns the path to write to; raises UserError if it exists or cannot be written."""
    if not settings.output:
        raise UserError("give --output: the file or folder to write")
    is_folder = settings.format == "minari"
    if is_folder:
        with needing("--format=minari", "minari"):
            import minari  # noqa: F401  (so that nothing is collected in vain)
    policies = (*settings.policy, *settings.expert, *filter(None, [settings.replay]))
    inputs = [Path(name).expanduser() for name in policies]
    path = check_output("output", settings.output, () if is_folder else SUFFIXES, inputs)
    if os.path.lexists(path):
        raise UserError(f"--output={path}: exists already: give another name, or delete it")
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
