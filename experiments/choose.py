"""Ranks the policies of an offline run (one per seed and setting) by its data: no environment is needed.

Examples:
  xql-choose results/pointmaze-umaze-v0/xql/seeds0-5_1a2b3c4d --output=choice.csv
  xql-choose results/.../checkpoints/20000 --max_steps=50000 --discount=0.995
  xql-choose results/mine/iql/seeds0-3_1a2b3c4d --dataset=held_out.npz  # not learned from

The argument is a run's folder, or one of its checkpoints; the default is the last checkpoint. The policies
act deterministically. They are judged by fitted-Q evaluation, which is trained here for all of them at once,
and by their own V and Q. If the run was evaluated, its scores are shown, too, and how well each ranking
correlates with them. Nothing in the folder is changed. docs/choosing.md explains how to read the result.
"""

from xql_jax.commands import choosing, command_line
from xql_jax.runs.tool_settings import ChoiceSettings


def main(settings: ChoiceSettings) -> int:
    return choosing.choose_and_print(settings)


if __name__ == "__main__":
    command_line.run(main, ChoiceSettings)
