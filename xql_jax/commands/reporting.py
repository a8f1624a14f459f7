"""What xql-report, xql-runs and xql-choose print and write of runs that are there."""

import csv
import math
import sys
import time

from xql_jax.errors import UserError
from xql_jax.outputs import make_folder, writing_output
from xql_jax.reports.report import Report, check_installed
from xql_jax.reports.score_table import text_table
from xql_jax.runs.reporting import ListedRun, differing, filtered, list_runs, local_time, read_runs
from xql_jax.runs.tool_settings import ListSettings, ReportSettings

CELLS = ("state", "score", "when")  # titles of `_cells`


def write_report(settings: ReportSettings) -> int:
    """Writes the report, prints where it is and which runs it leaves out, and returns the exit code."""
    check_installed()
    found = read_runs(settings.folders)
    if not found.runs and not found.left_out:
        raise UserError(f"{', '.join(settings.folders)}: no runs there: a run is a folder with a config.json")
    folder = make_folder("output", settings.output)
    report = Report(found, ", ".join(settings.folders), settings.bootstrap_samples)
    files = report.files(f"Made {time.strftime('%Y-%m-%d %H:%M:%S %Z')}.")
    for name, text in files.items():
        with writing_output("output", folder / name) as unfinished:
            unfinished.write_bytes(text.encode(errors="backslashreplace"))
    print(f"{len(report.runs)} runs, {len(report.scores)} scores of a method on a dataset")
    for left_out in report.left_out:
        print(f"  left out: {left_out.run}: {left_out.reason}")
    print("written:", *(folder / name for name in files), sep="\n  ")
    return 0


def list_and_print(settings: ListSettings) -> int:
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
    titles, values = (
        [name.removeprefix("config.") for name in names],
        [[run.settings.get(name, "-") for name in names] for run in runs],
    )
    if settings.csv:
        table = [
            [run.name, run.task, run.method, "-".join(map(str, run.seeds)), *_cells(run), *of_run, run.note]
            for run, of_run in zip(runs, values, strict=True)
        ]
        header = ["run", "task", "method", "seeds", *CELLS, *titles, "note"]
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *table])
        return 0
    # Of settings and runs, the fewer are the columns. The name, which may be long, is the last one.
    is_below = len(names) > len(runs)
    beside = [[str(number)] for number in range(1, len(runs) + 1)] if is_below else values
    lines = [[*_cells(run), *more, run.name] for run, more in zip(runs, beside, strict=True)]
    print(text_table([[*CELLS, *(["#"] if is_below else titles), "run"], *lines]))
    if is_below:
        header = ["setting", *(f"#{number}" for (number,) in beside)]
        print(f"\n{text_table([header, *zip(titles, *values, strict=True)])}")
    for run in runs:
        if run.note:
            print(f"{run.note}: {run.name}")
    same = ", all settings that they share are the same" if settings.compare and not names else ""
    print(f"{len(runs)} runs{same}")
    return 0


def _cells(run: ListedRun) -> list[str]:
    spread = "" if math.isnan(run.interval) else f" ± {run.interval:.1f}"
    best_of = f" ({run.best_of})" if run.best_of else ""
    return [
        run.state + run.how_far,
        "" if math.isnan(run.score) else f"{run.score:.1f}{spread}{best_of}",
        local_time(run.written) if run.written else "",
    ]
