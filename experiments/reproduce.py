"""Reproduces a table of the paper: trains what it lacks, and writes it beside the paper's numbers.

Examples:
  python experiments/reproduce.py --table=1 --dry_run
  python experiments/reproduce.py --table=1 --methods=xql,iql,bc --datasets=kitchen-complete-v0 --num_seeds=3
  python experiments/reproduce.py --table=3 --max_steps=100000
  python experiments/reproduce.py --table=1 --datasets=Hopper-v5=hopper.hdf5,pointmaze-umaze-v0
  python experiments/reproduce.py --methods=xql,xql:loss=plain,mxql --sweep='beta=0.6,0.8,1,2,5'  # Figure 8

It prints its plan: which runs there are under --save_dir, which are to be trained and about how long that
takes, and which data are missing. Each dataset and method is one run of train_offline.py under the configs of
configs/, all seeds in one program. What has finished is not run again; stopped and typed again, it goes on.

Writes OUT/table_N.{txt,csv,md,tex}: our last scores with their 95% interval over seeds, the paper's in
brackets. The CSV has the best scores of training, too, under that name: they flatter, and are no result.
"""

from xql_jax.commands import command_line, printing
from xql_jax.commands.run_flags import settings_from

from pathlib import Path

from absl import flags

from xql_jax.outputs import make_folder, writing_output
from xql_jax.reports.paper_tables import TABLES
from xql_jax.runs import reproduction
from xql_jax.runs.settings import ReproductionSettings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

flags.DEFINE_enum("table", "1", TABLES, "1: Gym, AntMaze and Kitchen; 3: Adroit.")
flags.DEFINE_list(
    "methods",
    [],
    "Left out: the paper's. Any method of train_offline.py, METHOD+POLICY too; fields of its config "
    "change by METHOD:FIELD=VALUE:FIELD=VALUE; xql_t is XQL with --tuned.",
)
flags.DEFINE_list(
    "datasets", [], "Left out: the paper's. Any task of train_offline.py, TASK=FILE for data of one's own."
)
flags.DEFINE_string(
    "sweep",
    "",
    "Grid over traced hyperparameters, for the methods that have them: 'beta=0.1,0.5,2'; a column a setting.",
)
flags.DEFINE_integer("seed", 0, "First random seed.", lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_integer(
    "num_seeds", 6, "Seeds of each cell, one population.", lower_bound=1, upper_bound=100_000
)
flags.DEFINE_integer("max_steps", 1_000_000, "Updates.", lower_bound=1, upper_bound=2**31 - 1)
flags.DEFINE_integer(
    "eval_interval",
    None,
    "Updates between evaluations; left out: ten in all.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer(
    "eval_episodes",
    None,
    "Episodes of each evaluation, per seed; left out: 10, on AntMaze 100.",
    lower_bound=1,
    upper_bound=1_000_000,
)
flags.DEFINE_integer(
    "checkpoint_interval", 5_000, "Updates between checkpoints.", lower_bound=1, upper_bound=2**31 - 1
)
flags.DEFINE_string("save_dir", "results", "Folder under which runs are found and written.")
flags.DEFINE_string("out", "results/tables", "Folder for the tables.")
flags.DEFINE_boolean("dry_run", False, "Print the plan and the table as it is, and train nothing.")
flags.DEFINE_boolean("tqdm", True, "Show a progress bar, where stderr is a terminal.")
FLAGS = flags.FLAGS


def main() -> int:
    settings = settings_from(ReproductionSettings, FLAGS, config_dir=str(CONFIGS))
    plan = reproduction.make_plan(settings)
    printing.plan(plan)
    folder = make_folder("out", FLAGS.out)
    stopped = None
    if not FLAGS.dry_run:
        for cell, run in reproduction.train(plan):
            printing.cell(cell, run)
            if run.stop.received:
                stopped = run.stop.received
                break
    table = reproduction.table_of(settings)
    for suffix, text in (
        ("txt", table.as_text() + "\n"),
        ("csv", table.as_csv()),
        ("md", table.as_markdown()),
        ("tex", table.as_latex()),
    ):
        with writing_output("out", folder / f"table_{settings.table}.{suffix}") as unfinished:
            unfinished.write_text(text)
    print(table.as_text(), f"written to {folder}/table_{settings.table}.{{txt,csv,md,tex}}", sep="\n")
    return 128 + stopped if stopped else 0


if __name__ == "__main__":
    command_line.run(main)
