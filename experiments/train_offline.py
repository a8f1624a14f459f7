"""Trains an offline learner on a D4RL task, an embedded maze or a dataset of your own.

Examples:
  python experiments/train_offline.py --env_name=pointmaze-umaze-v0 --max_steps=30000 --num_seeds=3
  python experiments/train_offline.py --env_name=kitchen-complete-v0 --config=configs/kitchen_config.py
  python experiments/train_offline.py --config=configs/pointmaze_config.py:iql --config.expectile=0.8
  python experiments/train_offline.py --sweep='beta=0.1,0.2,0.3' --num_seeds=2 --max_steps=30000
  python experiments/train_offline.py --dataset=mine.npz  # no environment: no evaluation
  python experiments/train_offline.py --env_name=hopper-medium-v2 --config=configs/mujoco_config.py --tuned

What a run writes is in SAVE_DIR/ENV/ALGORITHM/RUN/; `--resume` goes on with a run that was stopped.
"""

from xql_jax.commands import command_line, printing
from xql_jax.commands.run_flags import define_run_flags, settings_from

from pathlib import Path

from absl import flags

from xql_jax.runs.offline import DEFAULT_ENV_NAME, OfflineRun
from xql_jax.runs.settings import DATA_ON, OfflineSettings

ROOT = Path(__file__).resolve().parents[1]


flags.DEFINE_string(
    "env_name",
    None,
    "Task: a D4RL name, or pointmaze-{umaze,medium,large}-v0; without it and --dataset "
    f"{DEFAULT_ENV_NAME}. Data without a task is trained on, not evaluated.",
)
flags.DEFINE_multi_string(
    "dataset",
    [],
    "Data instead of the task's own: FILE.hdf5 in D4RL's layout, FILE.npz, a folder of .npz episodes, "
    "minari:ID, minari:FOLDER or ogbench:FILE.npz. Several, each with its own --dataset, are joined.",
)
flags.DEFINE_string(
    "dataset_url", None, "Where to download the task's own dataset, instead of D4RL's server."
)
flags.DEFINE_enum(
    "data_on",
    "auto",
    DATA_ON,
    "Where the transitions are: on the device, or on the host or on disk and streamed in blocks; auto: where "
    "they fit.",
)
flags.DEFINE_boolean(
    "external_data",
    False,
    "Read arrays of an HDF5 file that lie in other files: behind external links, in external storage, or as "
    "sources of virtual datasets.",
)
define_run_flags("updates", eval_interval=5_000, checkpoint_interval=5_000)
flags.DEFINE_integer(
    "batch_size",
    None,
    "Transitions per update; the method's own, 256 for most, or Table 4's with --tuned.",
    lower_bound=1,
    upper_bound=10_000_000,
)
flags.DEFINE_boolean("tuned", False, "Apply the paper's per-dataset values (Table 4, in parentheses) to XQL.")
flags.DEFINE_boolean(
    "normalize_observations",
    None,
    "Give each entry of the observations mean 0 and standard deviation 1; left out: where a method's authors "
    "do.",
)
flags.DEFINE_float(
    "top_returns",
    None,
    "Share of the transitions to learn from, in the trajectories of the highest returns; left out: all, with "
    "bc10 0.1.",
    lower_bound=1e-6,
    upper_bound=1.0,
)
flags.DEFINE_string(
    "checkpoint",
    None,
    "A run's folder: a new run begins with its members of the same seeds and hyperparameters.",
)
command_line.define_environment_flags()
command_line.define_config(
    ROOT / "configs" / "pointmaze_config.py",
    "Hyperparameters: configs/NAME.py, or configs/NAME.py:METHOD (xql, iql, bc, value_iteration, "
    "q_iteration), or METHOD+POLICY (xql+forward_kl) for another policy than its own. After it, "
    "--config.FIELD=VALUE changes one.",
)
FLAGS = flags.FLAGS


def main() -> int:
    return printing.train(OfflineRun(settings_from(OfflineSettings, FLAGS)))


if __name__ == "__main__":
    command_line.run(main)
