"""Makes the tables of runs: their scores beside the paper's, and statistics over datasets.

Examples:
  xql-report results
  xql-report results/pointmaze-umaze-v0/xql results/pointmaze-umaze-v0/iql --output=report

The arguments are runs, finished or not, or folders that contain runs. Nothing in them is changed. A damaged
run is left out, and the command says why.

Prints the scores by dataset and method, and writes OUTPUT/{scores,statistics}.csv, OUTPUT/scores.md and
OUTPUT/scores.tex.
"""

from collections.abc import Sequence

from xql_jax.errors import UserError, nearest
from xql_jax.files.outputs import check_output, write_output
from xql_jax.rollout.quantities import QUANTITIES
from xql_jax.settings import NAMED, SEVERAL, TEXT, Command, setting, within
from xql_jax.workshop.commands import command_line
from xql_jax.workshop.reports.score_table import report_files, score_tables, text_table
from xql_jax.workshop.reports.scores import FOLDERS_HELP, method_scores, read_runs, references_given
from xql_jax.workshop.reports.statistics import compared_scores


@Command
def main(
    *,
    folders: Sequence[str] = setting((), SEVERAL, FOLDERS_HELP, positional=True),
    bootstrap_samples: int = setting(
        2_000, within(100, 1_000_000), "Bootstrap samples for the intervals of statistics over datasets."
    ),
    references: Sequence[str] = setting(
        (),
        NAMED,
        "TASK=RANDOM,EXPERT: the returns of scores 0 and 100 of a task or a file of your own, by its name in "
        "the table. Repeatable.",
    ),
    quantity: str = setting(
        "score",
        TEXT,
        f"Column of evaluations.csv that the tables show: {', '.join(QUANTITIES)}, or another one.",
    ),
    output: str = setting("results/report", TEXT, "Folder for the tables."),
) -> int:
    given = references_given(references)
    found = read_runs(folders, column=quantity, references=given)
    if not found.runs and not found.left_out:
        raise UserError(f"{', '.join(folders)}: no runs there: a run is a folder with a config.json")
    if not found.members and quantity not in QUANTITIES:
        known = ", ".join(QUANTITIES)
        raise UserError(f"--quantity={quantity}: no run there has this column; all have some of {known}")
    names = {run.dataset for run in found.runs}
    if unknown := [name for name in given if name not in names]:
        raise UserError(
            f"--references: no run of {unknown[0]!r} there; nearest: {nearest(unknown[0], names)}"
        )
    folder = check_output("output", f"{output}/scores.csv").parent
    scores = method_scores(found.members)
    statistics, not_compared = compared_scores(scores, bootstrap_samples)
    files = report_files(scores, statistics)
    for name, text in files.items():
        write_output("output", folder / name, text)
    print("\n\n".join(map(text_table, score_tables(scores))))
    print(f"{len(found.runs)} runs, {len(scores)} scores of a method on a dataset")
    for run in found.runs:
        for line in run.caveats():
            print(f"  {run.name}: {line}")
    for left_out in found.left_out:
        print(f"  left out: {left_out.run}: {left_out.reason}")
    for left_out in not_compared:
        print(f"  not in the statistics: {left_out.run}: {left_out.reason}")
    for note in statistics.notes() if statistics else []:
        print(f"  {note}")
    print("written:", *(f"{output}/{name}" for name in files), sep="\n  ")
    return 0


if __name__ == "__main__":
    command_line.run(main)
