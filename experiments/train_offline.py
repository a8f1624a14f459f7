"""Trains an offline learner on a D4RL task, an embedded maze or a dataset of your own.

Examples:
  python experiments/train_offline.py --env_name=pointmaze-umaze-v0 --max_steps=30000 --num_seeds=3
  python experiments/train_offline.py --env_name=kitchen-complete-v0 --config=configs/kitchen_config.py
  python experiments/train_offline.py --config=configs/pointmaze_config.py:iql --config.expectile=0.8
  python experiments/train_offline.py --sweep='beta=0.1,0.2,0.3' --num_seeds=2 --max_steps=30000
  python experiments/train_offline.py --dataset=mine.npz  # no environment: no evaluation
  python experiments/train_offline.py --env_name=hopper-medium-v2 --config=configs/mujoco_config.py --tuned

A run writes to SAVE_DIR/ENV/ALGORITHM/RUN/. `--resume` goes on with a run that was stopped.
"""

from xql_jax.commands import command_line, training
from xql_jax.commands.run_flags import define_data_flags, define_run_flags

import sys
from pathlib import Path

from absl import flags

from xql_jax.runs.offline import DEFAULT_ENV_NAME, OfflineRun
from xql_jax.runs.settings import DATA_ON, OFFLINE_INTERVALS, OfflineSettings

ROOT = Path(__file__).resolve().parents[1]


flags.DEFINE_string(
    "env_name",
    None,
    "Task: a D4RL name, or pointmaze-{umaze,medium,large,large-rare}-v0. If neither this flag nor --dataset "
    f"is given, uses {DEFAULT_ENV_NAME}. With --dataset alone, nothing is evaluated.",
)
flags.DEFINE_multi_string(
    "dataset",
    [],
    "Data to use instead of the task's own: FILE.hdf5 in D4RL's layout, FILE.npz, a folder of .npz episodes, "
    "minari:ID, minari:FOLDER or ogbench:FILE.npz. Several --dataset flags are joined.",
)
flags.DEFINE_enum(
    "data_on",
    "auto",
    DATA_ON,
    "Where the transitions are kept: in the device's memory, or in the host's, from where they are streamed "
    "in blocks. auto: on the device, if there is room.",
)
define_data_flags()
define_run_flags("updates", **OFFLINE_INTERVALS)
flags.DEFINE_string(
    "checkpoint",
    None,
    "Folder of a run. The new run starts from its members with the same seeds and hyperparameters.",
)
flags.DEFINE_boolean(
    "extend",
    False,
    "Go on from a run with the same settings and fewer updates, if that gives the numbers of a run of "
    "--max_steps; or train the seeds that a run with the same settings lacks. Otherwise say why not. The "
    "existing run stays as it is.",
)
command_line.define_environment_flags()
command_line.define_config(
    training.default_config(ROOT / "configs", sys.argv[1:]),
    "Hyperparameters: configs/NAME.py, or configs/NAME.py:METHOD (all methods: docs/methods.md), or "
    "METHOD+POLICY (xql+reverse_kl) for another policy than its own. After it, --config.FIELD=VALUE changes "
    "one. The default is the file of the task's suite.",
)
FLAGS = flags.FLAGS


def main() -> int:
    return training.train(OfflineRun, OfflineSettings, FLAGS)


if __name__ == "__main__":
    command_line.run(main)
