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

import math
import sys
from collections.abc import Sequence
from csv import writer

from xql_jax.commands import command_line
from xql_jax.errors import UserError
from xql_jax.reports.method_scores import FOLDERS_HELP
from xql_jax.reports.score_table import text_table
from xql_jax.settings import ANY, EITHER, SEVERAL, Command, one_of, setting
from xql_jax.tools.list_runs import SORTS, ListedRun, differing, filtered, list_runs
from xql_jax.tools.read_runs import local_time

CELLS = ("state", "score", "when")  # titles of `cells`


@Command
def main(
    *,
    folders: Sequence[str] = setting((), SEVERAL, FOLDERS_HELP, positional=True),
    filter: str = setting(
        "",
        ANY,
        "List only runs with each NAME=VALUE. A name is task, method, state or a setting, such as beta. "
        "The score of a sweep is then of its members with the value.",
    ),
    compare: bool = setting(
        False, EITHER, "Show the settings that have several values among the listed runs."
    ),
    sort: str = setting("task", one_of(*SORTS), "Order: by task and method, best score, newest or name."),
    csv: bool = setting(False, EITHER, "Print CSV."),
) -> int:
    runs = filtered(list_runs(folders), filter)
    if not runs:
        raise UserError(f"{', '.join(folders)}: no such runs there")
    order = {
        "score": lambda run: (math.isnan(run.score), -run.score),
        "when": lambda run: -run.written,
        "name": lambda run: run.name,
    }
    if sort in order:
        runs.sort(key=order[sort])
    names = differing(runs) if compare else []
    titles = [name.removeprefix("config.") for name in names]
    values = [[run.settings.get(name, "-") for name in names] for run in runs]
    if csv:
        rows = [["run", "task", "method", "seeds", "mean", "half_width", *CELLS, *titles, "note"]]
        for run, of_run in zip(runs, values, strict=True):
            whose = [run.name, run.task, run.method, "-".join(map(str, run.seeds))]
            numbers = ["" if math.isnan(x) else f"{x:.6g}" for x in (run.score, run.half_width)]
            rows.append([*whose, *numbers, *cells(run), *of_run, run.note])
        writer(sys.stdout, lineterminator="\n").writerows(rows)
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
    same = ", all settings that they share are the same" if compare and not names else ""
    print(f"{len(runs)} runs{same}")
    return 0


def cells(run: ListedRun) -> list[str]:
    return [run.state + run.how_far, run.score_text, local_time(run.written) if run.written else ""]


if __name__ == "__main__":
    command_line.run(main)
