"""Trains a learner on a dataset (or takes a run of train_offline.py), then fine-tunes it in the environment.

Examples:
  python experiments/train_finetune.py --num_pretraining_steps=20000 --max_steps=10000 --num_seeds=3
  python experiments/train_finetune.py --checkpoint=results/pointmaze-umaze-v0/xql/RUN --max_steps=10000
  python experiments/train_finetune.py --config=configs/pointmaze_config.py:iql --offline_fraction=0.5
  python experiments/train_finetune.py --config=configs/pointmaze_config.py:rlpd --max_steps=20000
  python experiments/train_finetune.py --online='beta=0.2:0.1 awr_temperature=10' --exploration_noise=0.1

Training has two phases. Before the hand-over, a step is an update; after it, a step is a step of the
environment, and there are --max_steps of these. A run writes to SAVE_DIR/ENV/ALGORITHM/RUN/. `--resume` goes
on with a run that was stopped in either phase.
"""

from xql_jax.commands import command_line, training
from xql_jax.commands.run_flags import define_acting_flags, define_data_flags, define_run_flags

import sys
from pathlib import Path

from absl import flags

from xql_jax.runs.finetuning import FinetuneRun
from xql_jax.runs.offline import DEFAULT_ENV_NAME
from xql_jax.runs.platforms import prepare_acting
from xql_jax.runs.settings import FinetuneSettings

ROOT = Path(__file__).resolve().parents[1]


flags.DEFINE_string(
    "env_name",
    None,
    f"Task, such as kitchen-complete-v0. Default: the checkpoint's, else {DEFAULT_ENV_NAME}.",
)
flags.DEFINE_multi_string(
    "dataset",
    [],
    "Data to use instead of the task's own, as for experiments/train_offline.py; with --checkpoint, instead "
    "of the data that it was trained on.",
)
define_data_flags()
flags.DEFINE_string(
    "checkpoint",
    None,
    "A run of train_offline.py, or RUN/checkpoints/STEP of it, to go on from: its learner, hyperparameters, "
    "members, data and preprocessing.",
)
flags.DEFINE_integer(
    "member",
    None,
    "With --checkpoint, the member to go on with, counted from 0. Default: all.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "num_pretraining_steps",
    None,
    "Updates before the hand-over. Default: the method's own, 1,000,000 for most. With --checkpoint there "
    "are none.",
    lower_bound=0,
    upper_bound=2**30,
)
define_run_flags("steps of the environment", eval_interval=5_000, checkpoint_interval=5_000)
flags.DEFINE_integer(
    "replay_buffer_size",
    2_000_000,
    "Transitions in the replay buffer, the offline ones included unless there is an --offline_fraction. When "
    "it is full, the oldest are dropped.",
    lower_bound=1,
    upper_bound=100_000_000,
)
flags.DEFINE_integer(
    "init_dataset_size",
    None,
    "Transitions of the data to learn from, drawn at random. Default: all.",
    lower_bound=1,
)
flags.DEFINE_float(
    "offline_fraction",
    None,
    "Share of offline transitions in every minibatch after the hand-over, 0.5 in RLPD. Default: the method's "
    "own; for most, offline and online transitions are drawn with equal probability, as in IQL.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_integer(
    "warmup_steps",
    None,
    "Steps of random actions after the hand-over, before learning goes on. Default: the method's own, 0 for "
    "most.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_float(
    "updates_per_step",
    None,
    "Updates per step of the environment. Default: the method's own, 1 for most.",
    lower_bound=1e-6,
    upper_bound=1000.0,
)
flags.DEFINE_float(
    "exploration_noise",
    0.0,
    "Standard deviation of Gaussian noise that is added to the policy's actions.",
    lower_bound=0.0,
    upper_bound=10.0,
)
flags.DEFINE_string(
    "online",
    None,
    "Hyperparameters that change at the hand-over: 'beta=0.5' sets another value, 'beta=1:0.2' goes linearly "
    "from one to another over --max_steps. Default: the config's own, for most none.",
)
define_acting_flags()
command_line.define_environment_flags()
command_line.define_config(
    training.default_config(ROOT / "configs", sys.argv[1:]),
    "Hyperparameters: configs/NAME.py or configs/NAME.py:METHOD, as for train_offline.py. After it, "
    "--config.FIELD=VALUE changes one. With --checkpoint they are the run's, and --online changes them.",
)
FLAGS = flags.FLAGS
OF_THE_CHECKPOINT = (
    "config",
    "seed",
    "num_seeds",
    "sweep",
    "num_pretraining_steps",
    "tuned",
    "normalize_observations",
    "top_returns",
    "env_backend",
    "legacy_inertia",
)


def main() -> int:
    if FLAGS.checkpoint is not None:
        command_line.refuse(
            OF_THE_CHECKPOINT, "the run of --checkpoint has its own; what may change is given by --online"
        )
    prepare_acting()
    return training.train(FinetuneRun, FinetuneSettings, FLAGS)


if __name__ == "__main__":
    command_line.run(main)
