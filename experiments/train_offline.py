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

from pathlib import Path

from absl import flags

from xql_jax import command_line
from xql_jax.training.offline_run import DATA_ON, DEFAULT_ENV_NAME, OfflineSettings, run_offline
from xql_jax.training.run_flags import define_run_flags, run_settings

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
define_run_flags("updates", eval_interval=5_000, checkpoint_interval=5_000)
flags.DEFINE_integer(
    "batch_size",
    None,
    "Transitions per update; 256, or Table 4's with --tuned.",
    lower_bound=1,
    upper_bound=10_000_000,
)
flags.DEFINE_boolean("tuned", False, "Apply the paper's per-dataset values (Table 4, in parentheses) to XQL.")
command_line.define_environment_flags()
command_line.define_config(
    ROOT / "configs" / "pointmaze_config.py",
    "Hyperparameters: configs/NAME.py, or configs/NAME.py:ALGORITHM (xql, iql, bc, value_iteration, "
    "q_iteration). After it, --config.FIELD=VALUE changes one.",
)
FLAGS = flags.FLAGS


def main() -> int:
    settings = OfflineSettings(
        **run_settings(FLAGS),
        env_name=FLAGS.env_name,
        dataset=tuple(FLAGS.dataset),
        dataset_url=FLAGS.dataset_url,
        data_on=FLAGS.data_on,
        env_backend=FLAGS.env_backend,
        legacy_inertia=FLAGS.legacy_inertia,
        batch_size=FLAGS.batch_size,
        tuned=FLAGS.tuned,
    )
    return run_offline(settings)


if __name__ == "__main__":
    command_line.run(main)
