"""Ranks the policies of an offline run (one per seed and setting) by its data: no environment is needed.

Examples:
  python experiments/choose.py results/pointmaze-umaze-v0/xql/seeds0-5_1a2b3c4d --output=choice.csv
  python experiments/choose.py results/.../checkpoints/20000 --max_steps=50000 --discount=0.995
  python experiments/choose.py results/mine/iql/seeds0-3_1a2b3c4d --dataset=held_out.npz  # not learned from

The argument is a run's folder, or one of its checkpoints; the default is the last checkpoint. The policies
act deterministically. They are judged by fitted-Q evaluation, which is trained here for all of them at once,
and by their own V and Q. If the run was evaluated, its scores are shown, too, and how well each ranking
correlates with them. Nothing in the folder is changed. docs/choosing.md explains how to read the result.
"""

from xql_jax.commands import choosing, command_line
from xql_jax.commands.run_flags import settings_from

from absl import flags

from xql_jax.errors import UserError
from xql_jax.runs.choice import OfflinePolicySelection
from xql_jax.runs.settings import ChoiceSettings

flags.DEFINE_multi_string(
    "dataset",
    [],
    "Data to use instead of the run's own, for example held-out data. Takes what "
    "experiments/train_offline.py takes; several --dataset flags are joined.",
)
flags.DEFINE_integer(
    "max_steps",
    5_000,
    "Updates of each evaluation. Values need about 1 / (tau * (1 - discount)) of them to converge.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer("batch_size", 256, "Transitions per update.", lower_bound=1, upper_bound=10_000_000)
flags.DEFINE_string("hidden_dims", "128,128", "Widths of the hidden layers of the Q that evaluates.")
flags.DEFINE_boolean("critic_layer_norm", True, "Use layer norm in each hidden layer.")
flags.DEFINE_float("critic_lr", 1e-3, "Learning rate of this Q.")
flags.DEFINE_float("tau", 0.02, "Polyak rate of the target network, per update.")
flags.DEFINE_float("discount", None, "Discount of the values. Default: the run's own.")
flags.DEFINE_integer(
    "seed", 0, "Random seed, the same for all members.", lower_bound=0, upper_bound=2**31 - 1
)
flags.DEFINE_string(
    "output", None, "Write the members to FILE.csv, or members and correlations to FILE.json."
)
flags.DEFINE_boolean("tqdm", True, "Show a progress bar, where stderr is a terminal.")
FLAGS = flags.FLAGS


def main(checkpoint: str | None = None) -> int:
    if checkpoint is None:
        raise UserError("name a run's folder or one of its checkpoints")
    settings = settings_from(ChoiceSettings, FLAGS, checkpoint=checkpoint)
    return choosing.choose(OfflinePolicySelection(settings))


if __name__ == "__main__":
    command_line.run(main, max_arguments=1)
