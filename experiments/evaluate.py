"""Evaluates the policies of a run: mean, median, 95% interval and success rate of their scores.

Examples:
  xql-evaluate results/kitchen-complete-v0/xql/seeds0-2_1a2b3c4d --episodes=100
  xql-evaluate results/.../checkpoints/20000 --member=1 --video=member1.mp4
  xql-evaluate --random_policy --env_name=hammer-human-v1

The argument is a run's folder, or one of its checkpoints; the default is the last checkpoint. Nothing in the
folder is changed.
"""

from xql_jax.commands import command_line, evaluating
from xql_jax.runs.tool_settings import EvaluationSettings


def main(settings: EvaluationSettings) -> int:
    return evaluating.evaluate_and_print(settings)


if __name__ == "__main__":
    command_line.run(main, EvaluationSettings)
