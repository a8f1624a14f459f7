"""Evaluates the policies of a run: mean, median, 95% interval and success rate of their scores.

Examples:
  python experiments/evaluate.py results/kitchen-complete-v0/xql/seeds0-2_1a2b3c4d --episodes=100
  python experiments/evaluate.py results/.../checkpoints/20000 --member=1 --video=member1.mp4
  python experiments/evaluate.py --random_policy --env_name=hammer-human-v1

The argument is a run's folder, or one of its checkpoints; without a step it is the last. Nothing in the
folder is changed.
"""

from xql_jax.commands import command_line, printing
from xql_jax.commands.run_flags import settings_from

from absl import flags

from xql_jax.runs.evaluation import EvaluationRun
from xql_jax.runs.settings import EvaluationSettings

flags.DEFINE_string("env_name", None, "Task; the run's own when left out.")
flags.DEFINE_integer("episodes", 100, "Episodes of each member.", lower_bound=1, upper_bound=1_000_000)
flags.DEFINE_integer(
    "member", None, "Evaluate this member alone, counted from 0; all when left out.", lower_bound=0
)
flags.DEFINE_integer(
    "seed",
    20_000,
    "Of the episodes' starts; those of training's evaluations are others.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer(
    "num_environments",
    None,
    "At most so many at once; as many as are worth having when left out.",
    lower_bound=1,
    upper_bound=100_000,
)
flags.DEFINE_boolean(
    "random_policy",
    False,
    "Evaluate uniformly random actions instead of a run. Which they are depends on --num_environments, too.",
)
flags.DEFINE_string("video", None, "Record the first member's first episodes as FILE.mp4 or FILE.gif.")
flags.DEFINE_integer("video_episodes", 3, "Episodes of the video.", lower_bound=1, upper_bound=1_000)
flags.DEFINE_string("output", None, "Write the results as JSON to this file, too.")
flags.DEFINE_boolean("tqdm", True, "Show a progress bar, where stderr is a terminal.")
command_line.define_environment_flags(of_run=True)
FLAGS = flags.FLAGS


def main(checkpoint: str | None = None) -> int:
    settings = settings_from(EvaluationSettings, FLAGS, checkpoint=checkpoint)
    return printing.evaluate(EvaluationRun(settings))


if __name__ == "__main__":
    command_line.run(main, max_arguments=1)
