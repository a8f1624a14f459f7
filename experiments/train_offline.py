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
from ml_collections import config_flags

from xql_jax import command_line
from xql_jax.training.loop import Schedule
from xql_jax.training.offline_run import DATA_ON, DEFAULT_ENV_NAME, OfflineSettings, run_offline

ROOT = Path(__file__).resolve().parents[1]


def define_steps(name: str, default: int, help_text: str) -> None:
    """A number of updates, which are counted in 32 bits."""
    flags.DEFINE_integer(name, default, help_text, lower_bound=1, upper_bound=2**31 - 1)


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
flags.DEFINE_string("save_dir", "results", "Folder under which runs are written.")
flags.DEFINE_integer("seed", 42, "First random seed.", lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_integer(
    "num_seeds",
    1,
    "Seeds seed, seed + 1, ... trained as one program.",
    lower_bound=1,
    upper_bound=100_000,
)
flags.DEFINE_string(
    "sweep", "", "Grid over traced hyperparameters, in the same program: 'beta=0.6,1,2 tau=0.005,0.01'."
)
flags.DEFINE_integer(
    "eval_episodes",
    10,
    "Episodes of each evaluation, per seed; 0: no evaluation.",
    lower_bound=0,
    upper_bound=1_000_000,
)
define_steps("log_interval", 1000, "Updates between rows of metrics.csv.")
define_steps("eval_interval", 5000, "Updates between evaluations.")
define_steps("checkpoint_interval", 5000, "Updates between checkpoints.")
flags.DEFINE_float(
    "checkpoint_minutes",
    10.0,
    "A checkpoint also when the last is this old; 0: by updates alone.",
    lower_bound=0.0,
)
flags.DEFINE_integer(
    "batch_size",
    None,
    "Transitions per update; 256, or Table 4's with --tuned.",
    lower_bound=1,
    upper_bound=10_000_000,
)
define_steps("max_steps", 1_000_000, "Updates.")
flags.DEFINE_boolean("tqdm", True, "Show a progress bar, where stderr is a terminal.")
flags.DEFINE_boolean("resume", False, "Go on from the run's last checkpoint, or start if there is none.")
flags.DEFINE_boolean("tuned", False, "Apply the paper's per-dataset values (Table 4, in parentheses) to XQL.")
command_line.define_environment_flags()
command_line.define_config(
    ROOT / "configs" / "pointmaze_config.py",
    "Hyperparameters: configs/NAME.py, or configs/NAME.py:ALGORITHM (xql, iql, bc). After it, "
    "--config.FIELD=VALUE changes one.",
)
flags.declare_key_flag("config")
FLAGS = flags.FLAGS


def main() -> int:
    schedule = Schedule(
        FLAGS.max_steps,
        FLAGS.log_interval,
        FLAGS.eval_interval,
        FLAGS.checkpoint_interval,
        FLAGS.checkpoint_minutes,
    )
    settings = OfflineSettings(
        env_name=FLAGS.env_name,
        config=FLAGS.config,
        config_overrides=frozenset(config_flags.get_override_values(FLAGS["config"])),
        dataset=tuple(FLAGS.dataset),
        dataset_url=FLAGS.dataset_url,
        data_on=FLAGS.data_on,
        save_dir=FLAGS.save_dir,
        seed=FLAGS.seed,
        num_seeds=FLAGS.num_seeds,
        sweep=FLAGS.sweep,
        schedule=schedule,
        eval_episodes=FLAGS.eval_episodes,
        env_backend=FLAGS.env_backend,
        legacy_inertia=FLAGS.legacy_inertia,
        batch_size=FLAGS.batch_size,
        tuned=FLAGS.tuned,
        resume=FLAGS.resume,
        show_progress=FLAGS.tqdm,
    )
    return run_offline(settings)


if __name__ == "__main__":
    command_line.run(main)
