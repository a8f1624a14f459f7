"""Evaluates the policies of a run: mean, median, 95% interval and success rate of their scores.

Examples:
  python experiments/evaluate.py results/kitchen-complete-v0/xql/seeds0-2_1a2b3c4d --episodes=100
  python experiments/evaluate.py results/.../checkpoints/20000 --member=1 --video=member1.mp4
  python experiments/evaluate.py --random_policy --env_name=hammer-human-v1

The argument is a run's folder, or one of its checkpoints; the default is the last checkpoint. Nothing in the
folder is changed.
"""

from xql_jax.commands import command_line, printing
from xql_jax.commands.run_flags import settings_from

from absl import flags

from xql_jax.runs.evaluation import EvaluationRun
from xql_jax.runs.settings import EvaluationSettings

flags.DEFINE_string("env_name", None, "Task. Default: the run's own.")
flags.DEFINE_integer("episodes", 100, "Episodes per member.", lower_bound=1, upper_bound=1_000_000)
flags.DEFINE_integer("member", None, "Member to evaluate, counted from 0. Default: all.", lower_bound=0)
flags.DEFINE_integer(
    "seed",
    20_000,
    "Seed for the initial states. Evaluations during training use another one.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer(
    "num_environments",
    None,
    "Largest number of environments at once. Default: chosen by the suite.",
    lower_bound=1,
    upper_bound=100_000,
)
flags.DEFINE_boolean(
    "random_policy",
    False,
    "Evaluate uniformly random actions instead of a run. They also depend on --num_environments.",
)
flags.DEFINE_string("video", None, "Record the first member's first episodes as FILE.mp4 or FILE.gif.")
flags.DEFINE_integer("video_episodes", 3, "Episodes of the video.", lower_bound=1, upper_bound=1_000)
flags.DEFINE_string(
    "video_size",
    None,
    "Width and height of the video in pixels, such as 320x240. Default: 640x480 for an MP4, 320 wide for a "
    "GIF. A GIF of more than 10 MB is reduced until it fits.",
)
flags.DEFINE_float(
    "video_fps",
    None,
    "Frames per second, approximately. Steps are skipped so that the video runs in real time. Default: 50 "
    "for an MP4, 25 for a GIF.",
    lower_bound=0.1,
    upper_bound=240.0,
)
flags.DEFINE_string("output", None, "Also write the results to this file, as JSON.")
flags.DEFINE_boolean("tqdm", True, "Show a progress bar, if stderr is a terminal.")
command_line.define_environment_flags(of_run=True)
FLAGS = flags.FLAGS


def main(checkpoint: str | None = None) -> int:
    if FLAGS.video is None:
        command_line.refuse(
            ["video_episodes", "video_size", "video_fps"], "only used for a video: add --video=FILE"
        )
    settings = settings_from(EvaluationSettings, FLAGS, checkpoint=checkpoint)
    return printing.evaluate(EvaluationRun(settings))


if __name__ == "__main__":
    command_line.run(main, max_arguments=1)
