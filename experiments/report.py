"""Makes a report of runs: one page that works offline, with the same numbers as CSV, Markdown and LaTeX.

Examples:
  python experiments/report.py results
  python experiments/report.py results/pointmaze-umaze-v0/xql results/pointmaze-umaze-v0/iql --out=report

The arguments are runs, finished or not, or folders that contain runs. Nothing in them is changed. A damaged
run is left out, and the report says why.

Writes OUT/index.html, a page that needs no other file: scores by dataset and method beside the paper's,
statistics over datasets, learning curves, sensitivity to each setting that was varied, and the source of each
number. Also writes OUT/{scores,statistics,runs}.csv, OUT/scores.md and OUT/scores.tex.
"""

from xql_jax.commands import command_line, reporting
from xql_jax.commands.run_flags import settings_from

from absl import flags

from xql_jax.errors import UserError
from xql_jax.runs.settings import ReportSettings

MOST_FOLDERS = 100_000

flags.DEFINE_string("out", "results/report", "Folder for the page and the tables.")
flags.DEFINE_integer(
    "bootstrap_samples",
    2_000,
    "Bootstrap samples for the intervals of statistics over datasets.",
    lower_bound=100,
    upper_bound=1_000_000,
)
FLAGS = flags.FLAGS


def main(*folders: str) -> int:
    if not folders:
        raise UserError("name folders of runs, or folders that contain runs: report.py results")
    return reporting.write_report(settings_from(ReportSettings, FLAGS, folders=folders))


if __name__ == "__main__":
    command_line.run(main, max_arguments=MOST_FOLDERS)
