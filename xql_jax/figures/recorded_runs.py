"""Finished runs under a folder, and their groups: runs of a group differ only in their seeds."""

import dataclasses
import json
import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from xql_jax.errors import UserError
from xql_jax.logs.csv_reader import Row
from xql_jax.reports.results import NO_METHOD
from xql_jax.reports.summary import LARGEST, by_setting, varying_names
from xql_jax.runs.record import RunRecord, all_runs

LOG = logging.getLogger(__name__)
EXPLAINS_NOTHING = (
    *NO_METHOD,
    "eval_episodes",
    "eval_at_start",
)  # settings that change no score's expectation


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """Runs of one task and one method, which differ only in their seeds."""

    task: str
    method: str  # the algorithm, and the settings in which it differs from other groups on the task
    runs: Sequence[RunRecord]


class Point(NamedTuple):
    """A number from a run's CSV file, and the seed and step that it belongs to."""

    task: str
    method: str
    seed: int
    step: int
    value: float
    diverged: bool  # whether the row says so


def find_runs(root: Path) -> list[RunRecord]:
    """Returns the finished runs under a folder, ordered by their paths.

    Raises:
        UserError: if there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"--runs={root}: no such folder")
    finished = (run for run in all_runs(root) if run.summary.get("status") == "finished")
    return sorted(finished, key=lambda run: run.path)


def group_runs(runs: Iterable[RunRecord], but: Collection[str] = ()) -> list[RunGroup]:
    """Groups runs that differ only in their seeds and in the settings `but`, ordered by task and method.

    If an algorithm was run on a task with several settings, those that vary are part of the method's name.
    """
    alike: dict[tuple[str, str], dict[str, list[RunRecord]]] = {}
    for run in runs:
        of_algorithm = alike.setdefault((run.name, run.algorithm), {})
        of_algorithm.setdefault(json.dumps(_settings(run, but), sort_keys=True), []).append(run)
    groups = []
    for (task, algorithm), by_settings in alike.items():
        settings = [_settings(group[0], but) for group in by_settings.values()]
        varying = varying_names(settings)
        decisive = [name for name in varying if name not in EXPLAINS_NOTHING]
        methods = [_method(algorithm, values, decisive) for values in settings]
        if len(set(methods)) < len(methods):
            methods = [_method(algorithm, values, varying) for values in settings]
        groups += [RunGroup(task, *of) for of in zip(methods, by_settings.values(), strict=True)]
    return sorted(groups, key=lambda group: (group.task, group.method))


def _method(algorithm: str, settings: Mapping[str, str], names: Iterable[str]) -> str:
    """Returns the algorithm's name with the settings of these names."""
    return " ".join((algorithm, *(f"{name.removeprefix('config.')}={settings.get(name)}" for name in names)))


def read_points(groups: Iterable[RunGroup], file_name: str, column: str, what: str) -> list[Point]:
    """Reads a column of a CSV file of each run. Each setting of a sweep counts as a method of its own.

    Runs with a damaged file and numbers that are not finite are left out, with a warning.

    Args:
        what: what the numbers are, for the warning.
    Raises:
        UserError: if a method has a seed in two runs.
    """
    points = []
    for group in groups:
        run_of: dict[tuple[str, int], Path] = {}
        for run in group.runs:
            path = run.path / file_name
            for setting, rows in by_setting(rows_of(run, path, column)).items():
                method = " ".join((group.method, *(f"{name}={value:g}" for name, value in setting)))
                for row in rows:
                    diverged = not math.isnan(row.results.get("diverged_at", math.nan))
                    value = row.results[column]
                    points.append(Point(group.task, method, row.seed, row.step, value, diverged))
                    if run_of.setdefault((method, row.seed), path) != path:
                        twice = f"{run_of[method, row.seed]} and {path}"
                        raise UserError(f"{method} on {group.task} has seed {row.seed} twice: {twice}")
    finite = [point for point in points if abs(point.value) <= LARGEST]
    if left_out := len(points) - len(finite):
        LOG.warning(f"{left_out} of {len(points)} {what} are not finite, and left out")
    return finite


def rows_of(run: RunRecord, path: Path, column: str) -> list[Row]:
    """Returns the rows of a run's file. If it is damaged, warns and returns no rows."""
    try:
        return run.rows_with(column, path)
    except UserError as error:
        LOG.warning(f"{error}; its run is left out")
        return []


def _settings(run: RunRecord, but: Collection[str]) -> dict[str, str]:
    """Returns a run's settings, except those in `but`, as JSON text for showing and comparing."""
    return {
        name: json.dumps(value, sort_keys=True) for name, value in run.settings.items() if name not in but
    }
