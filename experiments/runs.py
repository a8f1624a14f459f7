"""Lists runs: how far each is, the settings in which it differs from the others, and its last score.

Examples:
  xql-runs results
  xql-runs results/pointmaze-umaze-v0/xql --sort=score
  xql-runs results/pointmaze-umaze-v0 --compare
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
from xql_jax.workshop.reports.read_runs import FOLDERS_HELP
from xql_jax.workshop.reports.score_table import MethodScore, plain_number, text_table
from xql_jax.workshop.tools.list_runs import (
    SORTS,
    best_of,
    differing,
    list_runs,
    score_text,
    shown_settings,
)

CELLS = ("state", "score", "when")  # titles of `cells`


@Command
def main(
    *,
    folders: Sequence[str] = setting((), SEVERAL, FOLDERS_HELP, positional=True),
    compare: bool = setting(
        False, EITHER, "Show the settings that have several values among the listed runs."
    ),
    sort: str = setting("task", one_of(*SORTS), "Order: by task and method, best score, newest or name."),
    csv: bool = setting(False, EITHER, "Print CSV."),
) -> int:
    listed, damaged = list_runs(folders)
    if not listed and not damaged:
        raise UserError(f"{', '.join(folders)}: no such runs there")
    means = {run: best.mean if (best := best_of(scores)) else math.nan for run, scores in listed.items()}
    orders = {
        "task": lambda run: (run.dataset, run.method, run.name),
        "score": lambda run: (math.isnan(means[run]), -means[run]),
        "when": lambda run: -run.written,
        "name": lambda run: run.name,
    }
    runs = sorted(listed, key=orders[sort])
    names = differing(runs) if compare else []
    titles = [name.removeprefix("config.") for name in names]
    values = [[shown_settings(run).get(name, "-") for name in names] for run in runs]
    if csv:
        rows = [["run", "task", "method", "seeds", "mean", "half_width", *CELLS, *titles, "note"]]
        rows += [[one.run, *[""] * 5, "damaged", "", "", *["-"] * len(names), one.reason] for one in damaged]
        for run, of_run in zip(runs, values, strict=True):
            whose = [run.name, run.dataset, run.method, f"{run.seeds[0]}-{run.seeds[-1]}"]
            best = best_of(listed[run])
            numbers = plain_number(means[run]), plain_number(best.interval if best else math.nan)
            rows.append([*whose, *numbers, *cells(run, listed[run]), *of_run, ""])
        writer(sys.stdout, lineterminator="\n").writerows(rows)
        return 0
    # The fewer of settings and runs are the columns. The name, which may be long, is the last one.
    is_below = len(names) > len(runs)
    beside = [[str(number)] for number in range(1, len(runs) + 1)] if is_below else values
    header = [*CELLS, *(["#"] if is_below else titles), "run"]
    lines = [["damaged", *[""] * (len(header) - 2), one.run] for one in damaged]
    lines += [[*cells(run, listed[run]), *more, run.name] for run, more in zip(runs, beside, strict=True)]
    print(text_table([header, *lines]))
    if is_below:
        numbered = ["setting", *(f"#{number}" for (number,) in beside)]
        print(f"\n{text_table([numbered, *zip(titles, *values, strict=True)])}")
    for one in damaged:
        print(f"{one.reason}: {one.run}")
    same = ", all settings that they share are the same" if compare and not names else ""
    print(f"{len(lines)} runs{same}")
    return 0


def cells(run: Run, scores: Sequence[MethodScore]) -> list[str]:
    how_far = "" if run.status == "finished" else f" at {run.reached:,} of {run.max_steps:,}"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.written))
    return [run.status + how_far, score_text(run, scores), when]


if __name__ == "__main__":
    command_line.run(main)
