"""Runs that have ended, found under a folder, and grouped into those that differ in nothing but the seed."""

import dataclasses
import json
import logging
import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xql_jax.errors import UserError
from xql_jax.logs.csv_reader import Row
from xql_jax.reports.summary import by_setting
from xql_jax.runs.record import RunRecord, all_runs

LOG = logging.getLogger(__name__)
MOST = 2**53  # steps, or a seed; more are damage
LARGEST = float(np.finfo(np.float32).max)  # that a run can have met; more cannot be drawn


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """Runs of one task and one method: they differ in their seeds alone."""

    task: str
    method: str  # the algorithm, and what sets it apart from the others' of that algorithm and task
    runs: Sequence[RunRecord]


class Point(NamedTuple):
    """A number of a run's CSV file, and whose it is."""

    task: str
    method: str
    seed: int
    step: int
    value: float
    diverged: bool  # as the row says


def find_runs(root: Path) -> list[RunRecord]:
    """Returns the runs under a folder that have finished, ordered by their paths.

    Raises:
        UserError: if there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"--runs={root}: no such folder")
    finished = (run for run in all_runs(root) if run.summary.get("status") == "finished")
    return sorted(finished, key=lambda run: run.path)


def group_runs(runs: Iterable[RunRecord], but: Collection[str] = ()) -> list[RunGroup]:
    """Puts runs together that differ in seeds, or in the settings `but`, alone, ordered by task and method.

    Where an algorithm was run on a task with several settings, those that vary are part of the method's name.
    """
    alike: dict[tuple[str, str], dict[str, list[RunRecord]]] = {}
    for run in runs:
        of_algorithm = alike.setdefault((run.name, run.algorithm), {})
        of_algorithm.setdefault(json.dumps(_settings(run, but), sort_keys=True), []).append(run)
    groups = []
    for (task, algorithm), by_settings in alike.items():
        firsts = [_settings(group[0], but) for group in by_settings.values()]
        names = dict.fromkeys(name for settings in firsts for name in settings)
        varying = [name for name in names if len({settings.get(name) for settings in firsts}) > 1]
        for group in by_settings.values():
            settings = (
                f"{name.removeprefix('config.')}={_settings(group[0], but).get(name)}" for name in varying
            )
            groups.append(RunGroup(task, " ".join((algorithm, *settings)), group))
    return sorted(groups, key=lambda group: (group.task, group.method))


def read_points(groups: Iterable[RunGroup], file_name: str, column: str, what: str) -> list[Point]:
    """Reads a column of a CSV file of each run. The settings of a sweep are methods apart.

    A run whose file is damaged is left out, with a warning; so are numbers that are not finite.
    Args:
        what: the numbers are, for the warning.
    Raises:
        UserError: if a method has a seed in two runs.
    """
    points = []
    for group in groups:
        run_of: dict[tuple[str, int], Path] = {}
        for run in group.runs:
            path = run.path / file_name
            for setting, rows in by_setting(_rows(run, path, column)).items():
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


def _rows(run: RunRecord, path: Path, column: str) -> list[Row]:
    """Returns the rows of one of a run's files; none, with a warning, if it is damaged."""
    try:
        rows = run.rows(path)
        if any(column not in row.results for row in rows):
            raise UserError(f"{path}: damaged: it has no column {column}")
        if any(not 0 <= number <= MOST for row in rows for number in (row.step, row.seed)):
            raise UserError(f"{path}: damaged: a step or seed is negative or beyond {MOST:,}")
    except UserError as error:
        LOG.warning(f"{error}; its run is left out")
        return []
    return rows


def _settings(run: RunRecord, but: Collection[str]) -> dict[str, str]:
    """A run's settings as JSON, which can be told apart and shown, without those `but`."""
    return {
        name: json.dumps(value, sort_keys=True) for name, value in run.settings.items() if name not in but
    }
