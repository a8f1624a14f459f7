"""Trains an online learner in a task of DM Control, in a Gymnasium task or in an embedded maze.

Examples:
  python experiments/train_online.py --env_name=cartpole-swingup --config.network=small --max_steps=100000
  python experiments/train_online.py --env_name=cheetah-run --config=configs/xtd3_config.py:xtd3_dq
  python experiments/train_online.py --env_name=walker-run --config=configs/sac_config.py --num_seeds=3

What a run writes is in SAVE_DIR/ENV/ALGORITHM/RUN/; `--resume` goes on with a run that was stopped: networks,
optimisers and replay buffer as they were, episodes from their starts.
"""

from xql_jax.commands import command_line, printing, surroundings
from xql_jax.commands.run_flags import define_run_flags, settings_from

from pathlib import Path

import jax
from absl import flags

from xql_jax.runs.online import OnlineRun
from xql_jax.runs.settings import ON_DAMAGED_REPLAY, ON_DIVERGENCE, OnlineSettings

ROOT = Path(__file__).resolve().parents[1]


flags.DEFINE_string("env_name", "cartpole-swingup", "Task, such as cheetah-run or HalfCheetah-v5.")
define_run_flags("steps of the environment", eval_interval=10_000, checkpoint_interval=10_000)
flags.DEFINE_integer(
    "num_environments", 1, "Of each member, stepped together.", lower_bound=1, upper_bound=10_000
)
flags.DEFINE_boolean("processes", False, "A process for each environment, instead of one for all.")
flags.DEFINE_float(
    "environment_timeout",
    60.0,
    "With --processes, seconds that these may take for an answer, or to start; then the run ends, saved.",
    lower_bound=1.0,
)
flags.DEFINE_integer(
    "max_policy_lag",
    100,
    "Updates that the policy in use may lack: it acts while the learner is at the last round.",
    lower_bound=1,
    upper_bound=1_000_000,
)
flags.DEFINE_enum(
    "on_divergence",
    "freeze",
    ON_DIVERGENCE,
    "Where numbers stop being finite. freeze: the member stays at its last finite round; restart: its "
    "networks begin anew, its buffer stays, and the run's summary says so.",
)
flags.DEFINE_enum(
    "on_damaged_replay",
    "stop",
    ON_DAMAGED_REPLAY,
    "What --resume does where files of the replay buffer are damaged. stop: it goes on from an older "
    "checkpoint whose buffer is whole, or stops; drop: it goes on from the last with the transitions that "
    "are whole, and says how many are lost.",
)
flags.DEFINE_integer(
    "bellman_error_interval",
    5_000,
    "Steps of the environment between rows of bellman_errors.csv, for Figures 1, 5 and 6; 0: none.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
command_line.define_config(
    ROOT / "configs" / "xsac_config.py",
    "Hyperparameters: configs/{xsac,sac,xtd3,td3}_config.py, the last two also with :xtd3_dq and :td3_dq. "
    "--config.network=small is for a laptop. After it, --config.FIELD=VALUE changes one.",
    command_line.ONLINE,
)
FLAGS = flags.FLAGS


def main() -> int:
    # The thread that acts would wait for the learner's program, which has its own.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    surroundings.add_cpu()
    return printing.train(OnlineRun(settings_from(OnlineSettings, FLAGS)))


if __name__ == "__main__":
    command_line.run(main)
