"""Finished runs under a folder, and what they were: parts of one method differ only in their seeds."""

import dataclasses
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xql_jax.errors import UserError
from xql_jax.logs.csv_reader import Row
from xql_jax.reports.results import NO_METHOD, as_text
from xql_jax.reports.summary import LARGEST, by_setting, varying_names
from xql_jax.runs.load import SavedRun, all_runs, with_swept

LOG = logging.getLogger(__name__)
EXPLAINS_NOTHING = (
    *NO_METHOD,
    "eval_episodes",
    "eval_at_start",
)  # settings that change no score's expectation


@dataclasses.dataclass(frozen=True)
class RunPart:
    """The members of a run with one setting of its sweep; without a sweep, all of its members."""

    run: SavedRun
    method: str  # the algorithm, and the settings in which it differs from other parts on the task
    swept: str  # the setting, such as "beta=0.5, tau=0.1"; empty without a sweep
    settings: Mapping[str, Any]  # all settings, with the sweep's values
    rows: Sequence[Row]


class Point(NamedTuple):
    """A number from a run's CSV file, and the seed and step that it belongs to."""

    task: str
    method: str
    seed: int
    step: int
    value: float
    diverged: bool  # whether the row says so


def find_runs(root: Path) -> list[SavedRun]:
    """Returns the finished runs under a folder, ordered by their paths.

    Raises:
        UserError: if there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"--runs={root}: no such folder")
    finished = (run for run in all_runs(root) if run.summary.get("status") == "finished")
    return sorted(finished, key=lambda run: run.path)


def read_parts(
    runs: Iterable[SavedRun], file_name: str, column: str, what: str, but: str = ""
) -> list[RunPart]:
    """Reads a CSV file of each run, and splits the run by the settings of its sweep.

    Parts of the same method differ only in their seeds and in the setting `but`. If an algorithm was run on a
    task with several settings, those that vary are part of the method's name, whether a sweep gave them or
    not. A seed that two runs trained with the same settings is counted once, and damaged files and rows whose
    number is not finite are left out, each with a warning.

    Args:
        file_name: of the file in a run's folder.
        column: of the numbers that a figure shows.
        what: what the numbers are, for the warning.
        but: the setting that a figure shows on an axis.
    Returns:
        The parts, ordered by task and method.
    """
    parts = [part for run in runs for part in _parts_of(run, file_name, column)]
    alike: dict[tuple[str, str], list[RunPart]] = {}
    for part in _finite(list(_each_seed_once(parts)), column, what):
        alike.setdefault((part.run.name, part.run.algorithm), []).append(part)
    named = [
        dataclasses.replace(part, method=method)
        for of_algorithm in alike.values()
        for part, method in zip(of_algorithm, _methods(of_algorithm, but), strict=True)
    ]
    return sorted(named, key=lambda part: (part.run.name, part.method))


def _parts_of(run: SavedRun, file_name: str, column: str) -> Iterator[RunPart]:
    """Yields the parts of a run, all named after its algorithm; if its file is damaged, warns instead."""
    try:
        rows = list(run.rows(run.path / file_name, column))
    except UserError as error:
        LOG.warning(f"{error}; its run is left out")
        return
    for setting, of_setting in by_setting(rows).items():
        settings = with_swept(run.settings, dict(setting))
        swept = ", ".join(f"{name}={value:g}" for name, value in setting)
        yield RunPart(run, run.algorithm, swept, settings, of_setting)


def _each_seed_once(parts: Sequence[RunPart]) -> Iterator[RunPart]:
    """Yields the parts without the rows of seeds that an earlier run trained with the same settings."""
    first: dict[tuple[str, str, str, int], SavedRun] = {}
    for part in parts:
        same = (part.run.name, part.run.algorithm, json.dumps(_texts(part), sort_keys=True))
        seeds = sorted({row.seed for row in part.rows})
        counted = {seed: first.setdefault((*same, seed), part.run) for seed in seeds}
        for seed in (seed for seed in seeds if counted[seed] is not part.run):
            what = " ".join(filter(None, (f"{part.run.path}: {part.run.algorithm}", part.swept)))
            LOG.warning(f"{what}: seed {seed} is counted once, in {counted[seed].path}")
        if own := [row for row in part.rows if counted[row.seed] is part.run]:
            yield dataclasses.replace(part, rows=own)


def _finite(parts: Sequence[RunPart], column: str, what: str) -> list[RunPart]:
    """Returns the parts without rows whose number is not finite; warns of these."""
    finite = [
        dataclasses.replace(part, rows=[row for row in part.rows if abs(row.results[column]) <= LARGEST])
        for part in parts
    ]
    count, kept = (sum(len(part.rows) for part in some) for some in (parts, finite))
    if kept < count:
        LOG.warning(f"{count - kept} of {count} {what} are not finite, and left out")
    return finite


def _methods(parts: Sequence[RunPart], but: str) -> list[str]:
    """Returns the names of the methods of one algorithm's parts on one task."""
    hidden = (but, f"config.{but}")
    settings = [{name: text for name, text in _texts(part).items() if name not in hidden} for part in parts]
    varying = varying_names(settings)
    decisive = [name for name in varying if name not in EXPLAINS_NOTHING]
    algorithm = parts[0].run.algorithm
    methods = [_method(algorithm, values, decisive) for values in settings]
    if len(set(methods)) < len({json.dumps(values, sort_keys=True) for values in settings}):
        methods = [_method(algorithm, values, varying) for values in settings]
    return methods


def _texts(part: RunPart) -> dict[str, str]:
    """Returns the settings as text for showing and comparing, without the sweep, which no member has."""
    return {name: as_text(value) for name, value in part.settings.items() if name != "sweep"}


def _method(algorithm: str, settings: Mapping[str, str], names: Iterable[str]) -> str:
    """Returns the algorithm's name with the settings of these names."""
    return " ".join((algorithm, *(f"{name.removeprefix('config.')}={settings.get(name)}" for name in names)))


def points_of(part: RunPart, column: str) -> list[Point]:
    """Returns the numbers of a column."""
    return [
        Point(
            part.run.name,
            part.method,
            row.seed,
            row.step,
            row.results[column],
            not math.isnan(row.results.get("diverged_at", math.nan)),
        )
        for row in part.rows
    ]
