"""Trains an online learner in a task of DM Control, in a Gymnasium task or in an embedded maze.

Examples:
  python experiments/train_online.py --env_name=cartpole-swingup --config.network=small --max_steps=100000
  python experiments/train_online.py --env_name=cheetah-run --config=configs/xtd3_config.py:xtd3_dq
  python experiments/train_online.py --env_name=walker-run --config=configs/sac_config.py --num_seeds=3

What a run writes is in SAVE_DIR/ENV/ALGORITHM/RUN/; `--resume` goes on with a run that was stopped: networks,
optimisers and replay buffer as they were, episodes from their starts.
"""

from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from xql_jax import command_line
from xql_jax.training.loop import Schedule
from xql_jax.training.online_run import MODES, ON_DIVERGENCE, OnlineSettings, run_online

ROOT = Path(__file__).resolve().parents[1]


def define_steps(name: str, default: int, help_text: str) -> None:
    flags.DEFINE_integer(name, default, help_text, lower_bound=1, upper_bound=2**31 - 1)


flags.DEFINE_string("env_name", "cartpole-swingup", "Task, such as cheetah-run or HalfCheetah-v5.")
flags.DEFINE_string("save_dir", "results", "Folder under which runs are written.")
flags.DEFINE_integer("seed", 42, "First random seed.", lower_bound=0, upper_bound=2**31 - 1)
flags.DEFINE_integer("num_seeds", 1, "Seeds seed, seed + 1, ...", lower_bound=1, upper_bound=1_000)
flags.DEFINE_string("sweep", "", "Grid over traced hyperparameters: 'beta=1,2,5'.")
flags.DEFINE_integer("eval_episodes", 10, "Episodes of each evaluation, per seed; 0: none.", lower_bound=0)
define_steps("max_steps", 1_000_000, "Steps of the environment.")
define_steps("log_interval", 1_000, "Steps between rows of metrics.csv.")
define_steps("eval_interval", 10_000, "Steps between evaluations.")
define_steps("checkpoint_interval", 10_000, "Steps between checkpoints.")
flags.DEFINE_float(
    "checkpoint_minutes",
    10.0,
    "A checkpoint also when the last is this old; 0: by steps alone.",
    lower_bound=0.0,
)
flags.DEFINE_integer(
    "num_environments", 1, "Of each member, stepped together.", lower_bound=1, upper_bound=10_000
)
flags.DEFINE_boolean("processes", False, "A process for each environment, instead of one for all.")
flags.DEFINE_enum(
    "mode",
    "overlapped",
    MODES,
    "overlapped: act while the learner is at the last round, by a policy at most --max_policy_lag updates "
    "old; "
    "alternating: learn after every step.",
)
flags.DEFINE_integer("max_policy_lag", 100, "Updates, see --mode.", lower_bound=1, upper_bound=1_000_000)
flags.DEFINE_enum(
    "on_divergence",
    "freeze",
    ON_DIVERGENCE,
    "Where numbers stop being finite. freeze: the member stays at its last finite round; restart: its "
    "networks begin anew, its buffer stays, and the run's summary says so.",
)
flags.DEFINE_boolean("tqdm", True, "Show a progress bar, where stderr is a terminal.")
flags.DEFINE_boolean("resume", False, "Go on from the run's last checkpoint, or start if there is none.")
command_line.define_config(
    ROOT / "configs" / "xsac_config.py",
    "Hyperparameters: configs/{xsac,sac,xtd3,td3}_config.py, the last two also with :xtd3_dq and :td3_dq. "
    "--config.network=small is for a laptop. After it, --config.FIELD=VALUE changes one.",
    command_line.ONLINE_FIELDS,
)
flags.declare_key_flag("config")
FLAGS = flags.FLAGS


def main() -> int:
    # The thread that acts would wait for the learner's program, which has its own.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    settings = OnlineSettings(
        env_name=FLAGS.env_name,
        config=FLAGS.config,
        config_overrides=frozenset(config_flags.get_override_values(FLAGS["config"])),
        save_dir=FLAGS.save_dir,
        seed=FLAGS.seed,
        num_seeds=FLAGS.num_seeds,
        sweep=FLAGS.sweep,
        schedule=Schedule(
            FLAGS.max_steps,
            FLAGS.log_interval,
            FLAGS.eval_interval,
            FLAGS.checkpoint_interval,
            FLAGS.checkpoint_minutes,
        ),
        eval_episodes=FLAGS.eval_episodes,
        num_environments=FLAGS.num_environments,
        processes=FLAGS.processes,
        mode=FLAGS.mode,
        max_policy_lag=FLAGS.max_policy_lag,
        on_divergence=FLAGS.on_divergence,
        resume=FLAGS.resume,
        show_progress=FLAGS.tqdm,
    )
    return run_online(settings)


if __name__ == "__main__":
    command_line.run(main)
