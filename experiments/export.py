"""Writes a run's policy as files that act without this project: JAX, ONNX and NumPy.

Examples:
  python experiments/export.py results/pointmaze-umaze-v0/xql/seed42_1a2b3c4d
  python experiments/export.py results/.../checkpoints/20000 --member=1 --formats=npz --output=policy
  python experiments/export.py results/.../seed42_1a2b3c4d --episodes=20  # and scores of each file

The argument is a run's folder, or one of its checkpoints. Every file takes the environment's observations
float32[B, O] and returns actions float32[B, A] within [-1, 1]: the mode of the policy. Each file is read back
and compared with the run on 1,000 observations. act.py, which needs only NumPy, uses policy.npz.
"""

from xql_jax.commands import command_line, printing
from xql_jax.commands.run_flags import settings_from

from absl import flags

from xql_jax.errors import UserError
from xql_jax.runs.settings import EXPORT_FORMATS, ExportSettings

flags.DEFINE_string("env_name", None, "Task of --episodes. Default: the run's own.")
flags.DEFINE_integer(
    "member", None, "Member of the run, counted from 0. Needed for runs with several members.", lower_bound=0
)
flags.DEFINE_list(
    "formats",
    list(EXPORT_FORMATS),
    "Files to write. jax: an artifact of jax.export; onnx: a graph (needs xql_jax[export]); npz: weights.",
)
flags.DEFINE_string("output", None, "Folder for the files. Default: `export` in the run's folder.")
flags.DEFINE_integer(
    "episodes",
    0,
    "Evaluate the run and every file over that many episodes.",
    lower_bound=0,
    upper_bound=1_000_000,
)
flags.DEFINE_integer(
    "seed", 20_000, "Seed for the initial states of these episodes.", lower_bound=0, upper_bound=2**31 - 1
)
FLAGS = flags.FLAGS


def main(checkpoint: str | None = None) -> int:
    if checkpoint is None:
        raise UserError("name a run's folder or one of its checkpoints")
    return printing.export(settings_from(ExportSettings, FLAGS, checkpoint=checkpoint))


if __name__ == "__main__":
    command_line.run(main, max_arguments=1)
