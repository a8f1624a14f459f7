"""A list of runs as a table for the terminal, or as CSV."""

import csv
import math
import sys
from collections.abc import Sequence

from xql_jax.errors import UserError, printable
from xql_jax.runs.listing import ListedRun, differences, differing, filtered, list_runs, when
from xql_jax.runs.settings import ListSettings

SORTS = ("task", "score", "when", "name")
MOST_DIFFERENCES = 4  # largest number shown beside a run; --compare shows all
LONGEST_CELL = 1000  # characters


def show(settings: ListSettings) -> int:
    """Prints the runs that pass the filter; returns the exit code."""
    runs = filtered(list_runs(settings.folders), settings.filter)
    if not runs:
        raise UserError(f"{', '.join(settings.folders)}: no such runs there")
    order = {
        "score": lambda run: (math.isnan(run.score), -run.score),
        "when": lambda run: -run.written,
        "name": lambda run: run.name,
    }
    if settings.sort in order:
        runs.sort(key=order[settings.sort])
    names = differing(runs) if settings.compare else []
    header, rows = _table(runs, names, settings.compare)
    if settings.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([header, *rows])
    else:
        _print_aligned(header, rows)
        print(f"{len(runs)} runs")
    return 0


def _table(
    runs: Sequence[ListedRun], names: Sequence[str], compare: bool
) -> tuple[list[str], list[list[str]]]:
    told = differences(runs)
    header = ["run", "state", "task", "method", "seeds", "score", "when"]
    header += [name.removeprefix("config.") for name in names] if compare else ["differs in"]
    rows = []
    for run in runs:
        if run.state == "damaged":
            empty = [""] * (len(header) - 3)
            rows.append([run.name, run.state, *empty, run.reason])
            continue
        first, last = run.seeds
        row = [
            run.name,
            _state(run),
            run.task,
            run.method,
            str(first) if first == last else f"{first}-{last}",
        ]
        row += [_score(run), when(run.written)]
        rows.append(
            row + ([run.settings.get(name, "") for name in names] if compare else [_few(told[run.name])])
        )
    return header, rows


def _state(run: ListedRun) -> str:
    how_far = f" at {run.step:,} of {run.max_steps:,} {run.unit}s"
    return run.state + (how_far if run.state != "finished" else "")


def _few(parts: Sequence[str]) -> str:
    others = len(parts) - MOST_DIFFERENCES
    return " ".join(parts[:MOST_DIFFERENCES]) + (f" and {others} more" if others > 0 else "")


def _score(run: ListedRun) -> str:
    if math.isnan(run.score):
        return ""
    spread = "" if math.isnan(run.interval) else f" ± {run.interval:.1f}"
    return f"{run.score:.1f}{spread}" + (f" ({run.best_of})" if run.best_of else "")


def _print_aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    rows = [[printable(cell, LONGEST_CELL) for cell in row] for row in rows]  # names are from files
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
