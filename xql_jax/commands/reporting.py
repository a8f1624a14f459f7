"""What xql-report, xql-runs and xql-choose print and write of runs that are there."""

import csv
import math
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xql_jax.errors import UserError
from xql_jax.outputs import make_folder, writing_output
from xql_jax.reports.report import Report, check_installed
from xql_jax.runs.reporting import ListedRun, differences, differing, filtered, list_runs, read_runs
from xql_jax.runs.tool_settings import ListSettings, ReportSettings

MOST_DIFFERENCES = 4  # largest number shown beside a run; --compare shows all


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table with every row in one line, whatever the terminal's width."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in header:
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # as text, so that names from files are no markup
    console = Console(width=10_000, highlight=False)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


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
    told, names = differences(runs), differing(runs) if settings.compare else []
    header = ["run", "state", "task", "method", "seeds", "score", "when"]
    header += [name.removeprefix("config.") for name in names] if settings.compare else ["differs in"]
    rows = []
    for run in runs:
        if run.state == "damaged":
            rows.append([run.name, run.state, *[""] * (len(header) - 3), run.reason])
            continue
        settings_of_run = [run.settings.get(name, "") for name in names]
        few = " ".join(told[run.name][:MOST_DIFFERENCES])
        more = len(told[run.name]) - MOST_DIFFERENCES
        differs = [few + (f" and {more} more" if more > 0 else "")]
        rows.append([*_cells(run), *(settings_of_run if settings.compare else differs)])
    if settings.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *rows])
    else:
        print_table(header, rows)
        print(f"{len(runs)} runs")
    return 0


def _cells(run: ListedRun) -> list[str]:
    first, last = run.seeds
    spread = "" if math.isnan(run.interval) else f" ± {run.interval:.1f}"
    best_of = f" ({run.best_of})" if run.best_of else ""
    return [
        run.name,
        run.state + run.how_far,
        run.task,
        run.method,
        str(first) if first == last else f"{first}-{last}",
        "" if math.isnan(run.score) else f"{run.score:.1f}{spread}{best_of}",
        time.strftime("%Y-%m-%d %H:%M", time.localtime(run.written)),
    ]
