"""Lists runs: how far each is, the settings in which it differs from the others, and its last score.

Examples:
  xql-runs results
  xql-runs results --filter='method=xql beta=0.2 state=finished' --sort=score
  xql-runs results/pointmaze-umaze-v0 --compare
  xql-runs results --csv > runs.csv

The arguments are runs' folders, or folders that contain runs. Nothing in them is changed. A run is finished,
running, interrupted (--resume goes on with it) or damaged. A score is the mean over the run's seeds at the
last evaluation, with half the width of its 95% interval. For a sweep, it is the score of the best setting.
"""

from xql_jax.commands import command_line, reporting
from xql_jax.runs.tool_settings import ListSettings


def main(settings: ListSettings) -> int:
    return reporting.list_and_print(settings)


if __name__ == "__main__":
    command_line.run(main, ListSettings)
