"""Lists runs: how far each is, the settings in which it differs from the others, and its last score.

Examples:
  xql-runs results
  xql-runs results --filter='method=xql beta=0.2 state=finished' --sort=score
  xql-runs results/pointmaze-umaze-v0 --compare
  xql-runs results --csv > runs.csv

The arguments are runs' folders, or folders that contain runs. Nothing in them is changed. A run is finished,
running, interrupted (--resume goes on with it) or damaged. A score is the mean over the run's seeds at the
last evaluation, with half the width of its 95% interval; a return, where a task has no scores. For a sweep,
it is that of the best setting, among those with the values that --filter names.
"""

import csv
import math
import sys

from xql_jax.commands import command_line
from xql_jax.errors import UserError
from xql_jax.reports.score_table import text_table
from xql_jax.tools.list_runs import ListedRun, ListSettings, differing, filtered, list_runs
from xql_jax.tools.read_runs import local_time

CELLS = ("state", "score", "when")  # titles of `cells`


def main(settings: ListSettings) -> int:
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
    titles = [name.removeprefix("config.") for name in names]
    values = [[run.settings.get(name, "-") for name in names] for run in runs]
    if settings.csv:
        rows = [["run", "task", "method", "seeds", "mean", "half_width", *CELLS, *titles, "note"]]
        for run, of_run in zip(runs, values, strict=True):
            whose = [run.name, run.task, run.method, "-".join(map(str, run.seeds))]
            numbers = ["" if math.isnan(x) else f"{x:.6g}" for x in (run.score, run.half_width)]
            rows.append([*whose, *numbers, *cells(run), *of_run, run.note])
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
        return 0
    # The fewer of settings and runs are the columns. The name, which may be long, is the last one.
    is_below = len(names) > len(runs)
    beside = [[str(number)] for number in range(1, len(runs) + 1)] if is_below else values
    lines = [[*cells(run), *more, run.name] for run, more in zip(runs, beside, strict=True)]
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


def cells(run: ListedRun) -> list[str]:
    return [run.state + run.how_far, run.score_text, local_time(run.written) if run.written else ""]


if __name__ == "__main__":
    command_line.run(main, ListSettings)
