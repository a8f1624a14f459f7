"""Makes a report of runs: one page that works offline, with the same numbers as CSV, Markdown and LaTeX.

Examples:
  xql-report results
  xql-report results/pointmaze-umaze-v0/xql results/pointmaze-umaze-v0/iql --output=report

The arguments are runs, finished or not, or folders that contain runs. Nothing in them is changed. A damaged
run is left out, and the report says why.

Writes OUTPUT/index.html, a page that needs no other file: scores by dataset and method beside the paper's,
statistics over datasets, learning curves, and the source of each number. Also writes
OUTPUT/{scores,statistics}.csv, OUTPUT/scores.md and OUTPUT/scores.tex.
"""

import time
from collections.abc import Sequence

from xql_jax.errors import UserError, needing
from xql_jax.files.outputs import check_output, write_output
from xql_jax.settings import NAMED, SEVERAL, TEXT, Command, setting, within
from xql_jax.workshop.commands import command_line
from xql_jax.workshop.reports.read_runs import FOLDERS_HELP, read_runs
from xql_jax.workshop.reports.report import Report
from xql_jax.workshop.reports.score_table import REFERENCES_HELP


@Command
def main(
    *,
    folders: Sequence[str] = setting((), SEVERAL, FOLDERS_HELP, positional=True),
    bootstrap_samples: int = setting(
        2_000, within(100, 1_000_000), "Bootstrap samples for the intervals of statistics over datasets."
    ),
    references: Sequence[str] = setting((), NAMED, REFERENCES_HELP),
    output: str = setting("results/report", TEXT, "Folder for the page and the tables."),
) -> int:
    with needing("a report", "report"):
        import jinja2  # noqa: F401
    found = read_runs(folders)
    if not found.runs and not found.left_out:
        raise UserError(f"{', '.join(folders)}: no runs there: a run is a folder with a config.json")
    folder = check_output("output", f"{output}/index.html").parent
    report = Report(found, ", ".join(folders), bootstrap_samples, references)
    files = report.files(f"Made {time.strftime('%Y-%m-%d %H:%M:%S %Z')}.")
    for name, text in files.items():
        write_output("output", folder / name, text)
    print(f"{len(report.runs)} runs, {len(report.scores)} scores of a method on a dataset")
    for left_out in report.left_out:
        print(f"  left out: {left_out.run}: {left_out.reason}")
    print("written:", *(f"{output}/{name}" for name in files), sep="\n  ")
    return 0


if __name__ == "__main__":
    command_line.run(main)
