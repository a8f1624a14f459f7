"""Lists runs: how far each is, the settings in which it differs from the others, and its last score.

Examples:
  python experiments/runs.py results
  python experiments/runs.py results --filter='method=xql beta=0.2 state=finished' --sort=score
  python experiments/runs.py results/pointmaze-umaze-v0 --compare
  python experiments/runs.py results --csv > runs.csv

The arguments are runs' folders, or folders that contain runs. Nothing in them is changed. A run is finished,
running, interrupted (--resume goes on with it) or damaged. A score is the mean over the run's seeds at the
last evaluation, with half the width of its 95% interval. For a sweep, it is the score of the best setting.
"""

from xql_jax.commands import command_line, reporting
from xql_jax.commands.run_flags import settings_from

from absl import flags

from xql_jax.errors import UserError
from xql_jax.runs.settings import ListSettings

MOST_FOLDERS = 100_000

flags.DEFINE_string(
    "filter",
    "",
    "List only runs with all of these: NAME=VALUE, where NAME is task, method, state or a setting such as "
    "beta.",
)
flags.DEFINE_boolean("compare", False, "Show a column for each setting in which the listed runs differ.")
flags.DEFINE_enum("sort", "task", reporting.SORTS, "Order: by task and method, best score, newest or name.")
flags.DEFINE_boolean("csv", False, "Print CSV.")
FLAGS = flags.FLAGS


def main(*folders: str) -> int:
    if not folders:
        raise UserError("name folders of runs, or folders that contain runs: runs.py results")
    return reporting.list_and_print(settings_from(ListSettings, FLAGS, folders=folders))


if __name__ == "__main__":
    command_line.run(main, max_arguments=MOST_FOLDERS)
