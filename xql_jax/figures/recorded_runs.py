"""Runs that have ended, found under a folder, and grouped into those that differ in nothing but the seed."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from xql_jax.configuration import settings_by_name
from xql_jax.errors import UserError
from xql_jax.logs.files import read_json
from xql_jax.reports.summary import by_setting, read_rows

# Of config.json: what does not make a run another method.
NO_SETTINGS = ("env_name", "seeds", "versions", "commit", "resumed", "note")


@dataclasses.dataclass(frozen=True)
class RecordedRun:
    """What a run's config.json says of it."""

    path: Path
    name: str  # of the task, or of the data if it was trained without one
    algorithm: str
    settings: Mapping[str, str]  # all that its numbers depend on but task and seeds, as JSON, by name
    restarts: int  # of networks that had diverged, over all its members


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """Runs of one task and one method: they differ in their seeds alone."""

    task: str
    method: str  # the algorithm, and what sets it apart from the others' of that algorithm and task
    runs: Sequence[RecordedRun]


class Point(NamedTuple):
    """A number of a run's CSV file, and whose it is."""

    task: str
    method: str
    seed: int
    step: int
    value: float
    diverged: bool  # as the row says


def find_runs(root: Path) -> list[RecordedRun]:
    """Returns the runs under a folder that have finished, ordered by their paths.

    Raises:
        UserError: if there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"--runs={root}: no such folder")
    return sorted(_runs(root), key=lambda run: run.path)


def group_runs(runs: Iterable[RecordedRun]) -> list[RunGroup]:
    """Puts runs together that differ in their seeds alone, ordered by task and method.

    Where an algorithm was run on a task with several settings, those that vary are part of the method's name.
    """
    alike: dict[tuple[str, str], dict[str, list[RecordedRun]]] = {}
    for run in runs:
        of_algorithm = alike.setdefault((run.name, run.algorithm), {})
        of_algorithm.setdefault(json.dumps(run.settings, sort_keys=True), []).append(run)
    groups = []
    for (task, algorithm), by_settings in alike.items():
        firsts = [group[0].settings for group in by_settings.values()]
        names = dict.fromkeys(name for settings in firsts for name in settings)
        varying = [name for name in names if len({settings.get(name) for settings in firsts}) > 1]
        for group in by_settings.values():
            settings = (f"{name.removeprefix('config.')}={group[0].settings.get(name)}" for name in varying)
            groups.append(RunGroup(task, " ".join((algorithm, *settings)), group))
    return sorted(groups, key=lambda group: (group.task, group.method))


def read_points(groups: Iterable[RunGroup], file_name: str, column: str) -> list[Point]:
    """Reads a column of a CSV file of each run. The settings of a sweep are methods apart.

    Raises:
        UserError: if a method has a seed in two runs, or a file is damaged.
    """
    points = []
    for group in groups:
        run_of: dict[tuple[str, int], Path] = {}
        for run in group.runs:
            path = run.path / file_name
            try:
                for setting, rows in by_setting(read_rows(path)).items():
                    method = " ".join((group.method, *(f"{name}={value:g}" for name, value in setting)))
                    for row in rows:
                        point = Point(
                            group.task,
                            method,
                            int(row["seed"]),
                            int(row["step"]),
                            float(row[column]),
                            bool(row.get("diverged_at")),
                        )
                        points.append(point)
                        if run_of.setdefault((method, point.seed), path) != path:
                            twice = f"{run_of[method, point.seed]} and {path}"
                            raise UserError(f"{method} on {group.task} has seed {point.seed} twice: {twice}")
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{path}: damaged: {type(error).__name__}: {error}") from error
    return points


def _runs(root: Path) -> Iterator[RecordedRun]:
    for folder, below, files in os.walk(root):
        if "config.json" not in files:
            continue
        below.clear()  # what a run holds is no run
        path = Path(folder)
        summary = read_json(path / "summary.json") if "summary.json" in files else {}
        if summary.get("status") == "finished":
            content = read_json(path / "config.json")
            config = content.get("config")
            if not isinstance(config, dict) or not isinstance(config.get("algorithm"), str):
                print(f"warning: {path / 'config.json'} is damaged; its run is left out")
                continue
            settings = settings_by_name(content)
            yield RecordedRun(
                path,
                content.get("env_name") or path.resolve().parents[1].name,  # SAVE_DIR/ENV/ALGORITHM/RUN
                config["algorithm"],
                {
                    name: json.dumps(value, sort_keys=True)
                    for name, value in settings.items()
                    if name not in NO_SETTINGS
                },
                len(summary.get("restarts", [])),
            )
