"""Lists runs: how far each is, and its last score.

Examples:
  xql-runs results
  xql-runs results/pointmaze-umaze-v0/xql --sort=score
  xql-runs results --csv > runs.csv

The arguments are runs' folders, or folders that contain runs. Nothing in them is changed. A run is finished,
running, interrupted (--resume goes on with it) or damaged. A score is the mean over the run's seeds at the
last evaluation, with half the width of its 95% interval; a return, where a task has no scores. For a sweep,
it is that of the best setting.
"""

import math
import sys
import time
from collections.abc import Sequence
from csv import writer

from xql_jax.errors import UserError
from xql_jax.runs.load import Run
from xql_jax.settings import EITHER, SEVERAL, Command, one_of, setting
from xql_jax.workshop.commands import command_line
from xql_jax.workshop.reports.score_table import text_table
from xql_jax.workshop.reports.scores import FOLDERS_HELP, MethodScore, plain_number
from xql_jax.workshop.tools.list_runs import list_runs, score_text

CELLS = ("state", "score", "when")  # titles of `cells`


@Command
def main(
    *,
    folders: Sequence[str] = setting((), SEVERAL, FOLDERS_HELP, positional=True),
    sort: str = setting(
        "task",
        one_of("task", "score", "when", "name"),
        "Order: by task and method, best score, newest or name.",
    ),
    csv: bool = setting(False, EITHER, "Print CSV."),
) -> int:
    listed, damaged = list_runs(folders)
    if not listed and not damaged:
        raise UserError(f"{', '.join(folders)}: no such runs there")
    means = {run: best.mean if best else math.nan for run, best in listed.items()}
    orders = {
        "task": lambda run: (run.dataset, run.method, run.name),
        "score": lambda run: (math.isnan(means[run]), -means[run]),
        "when": lambda run: -run.written,
        "name": lambda run: run.name,
    }
    runs = sorted(listed, key=orders[sort])
    if csv:
        rows = [["run", "task", "method", "seeds", "mean", "half_width", *CELLS, "note"]]
        rows += [[one.run, *[""] * 5, "damaged", "", "", one.reason] for one in damaged]
        for run in runs:
            best = listed[run]
            whose = [run.name, run.dataset, run.method, f"{run.seeds[0]}-{run.seeds[-1]}"]
            numbers = plain_number(means[run]), plain_number(best.interval if best else math.nan)
            rows.append([*whose, *numbers, *cells(run, best), ""])
        writer(sys.stdout, lineterminator="\n").writerows(rows)
        return 0
    lines = [["damaged", "", "", one.run] for one in damaged]
    lines += [[*cells(run, listed[run]), run.name] for run in runs]  # the name, which may be long, is last
    print(text_table([[*CELLS, "run"], *lines]))
    for one in damaged:
        print(f"{one.reason}: {one.run}")
    print(f"{len(lines)} runs")
    return 0


def cells(run: Run, best: MethodScore | None) -> list[str]:
    how_far = "" if run.status == "finished" else f" at {run.reached:,} of {run.max_steps:,}"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.written))
    return [run.status + how_far, score_text(run, best), when]


if __name__ == "__main__":
    command_line.run(main)
