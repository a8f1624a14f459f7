"""Makes a report of runs: one page that works offline, with the same numbers as CSV, Markdown and LaTeX.

Examples:
  xql-report results
  xql-report results/pointmaze-umaze-v0/xql results/pointmaze-umaze-v0/iql --output=report

The arguments are runs, finished or not, or folders that contain runs. Nothing in them is changed. A damaged
run is left out, and the report says why.

Writes OUTPUT/index.html, a page that needs no other file: scores by dataset and method beside the paper's,
statistics over datasets, learning curves, sensitivity to each setting that was varied, and the source of each
number. Also writes OUTPUT/{scores,statistics,runs}.csv, OUTPUT/scores.md and OUTPUT/scores.tex.
"""

from xql_jax.commands import command_line, reporting
from xql_jax.runs.tool_settings import ReportSettings


def main(settings: ReportSettings) -> int:
    return reporting.write_report(settings)


if __name__ == "__main__":
    command_line.run(main, ReportSettings)
