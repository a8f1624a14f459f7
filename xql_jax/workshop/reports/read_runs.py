"""The runs below some folders with their members' numbers, for reports, lists and figures."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from xql_jax.rollout.run_summary import grouped
from xql_jax.runs.find import LeftOut, find_runs
from xql_jax.runs.load import Run, as_text, digests_of

FOLDERS_HELP = "folders of runs, or folders that contain runs"  # what commands read
LARGEST_DRAWN = float(np.finfo(np.float32).max)  # larger values, such as infinity, cannot be drawn


class Curve(NamedTuple):
    """The numbers of one member, a seed with one setting, from a column of one of its run's CSV files."""

    run: Run
    settings: dict[str, str]  # as text, swept values included
    swept: Mapping[str, float]  # the sweep's values
    seed: int
    steps: Sequence[int]  # ascending, at least one; several numbers may be of one step
    values: Sequence[float]  # NaN if not finite
    diverged: Sequence[bool]  # whether it had diverged by then
    is_finished: bool  # whether it was trained to the end


class FoundRuns(NamedTuple):
    runs: Sequence[Run]
    members: Sequence[Curve]
    left_out: Sequence[LeftOut]


def read_runs(folders: Sequence[str], file_name: str = "evaluations.csv", column: str = "score") -> FoundRuns:
    """Reads all runs below some folders, see `find_runs`, with the numbers in a column of a CSV file."""
    members: list[Curve] = []
    spellings: dict[str, str] = {}  # all runs on the same files have the names of data that the first one has

    def read(run: Run) -> None:
        if "dataset" in run.content:
            names, digests = run.content["dataset"], digests_of(run.content.get("data_files"))
            run.settings["dataset"] = spellings.setdefault(as_text(digests or names), as_text(names))
        members.extend(curves_of(run, file_name, column))

    runs, left_out = find_runs(folders, read)
    return FoundRuns(runs, members, left_out)


def curves_of(run: Run, file_name: str = "evaluations.csv", column: str = "score") -> list[Curve]:
    """Returns the numbers of each of its members; see `read_runs`."""
    rows, is_finished = run.rows(run.path / file_name), run.status == "finished"
    last = max((row.step for row in rows), default=0)
    curves = []
    for (swept, seed), of_member in grouped(rows, lambda row: (row.setting, row.seed)).items():
        of_member.sort(key=lambda row: row.step)
        values, settings = [row.results[column] for row in of_member], dict(run.settings)
        for name, value in swept:
            settings[f"config.{name}" if f"config.{name}" in settings else name] = as_text(value)
        curve = Curve(
            run=run,
            settings=settings,
            swept=dict(swept),
            seed=seed,
            steps=[row.step for row in of_member],
            values=[value if abs(value) <= LARGEST_DRAWN else math.nan for value in values],
            diverged=[not math.isnan(row.results.get("diverged_at", math.nan)) for row in of_member],
            is_finished=is_finished and of_member[-1].step == last,
        )
        curves.append(curve)
    return curves
