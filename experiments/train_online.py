"""Trains an online learner in a task of DM Control, in a Gymnasium task or in an embedded maze.

Examples:
  python experiments/train_online.py --env_name=cartpole-swingup --config.network=small --max_steps=100000
  python experiments/train_online.py --env_name=cheetah-run --config=configs/xtd3_config.py:xtd3_dq
  python experiments/train_online.py --env_name=walker-run --config=configs/sac_config.py --num_seeds=3
  python experiments/train_online.py --env_name=playground:CheetahRun --num_environments=100

In the last example, environments are part of the compiled program, see docs/compiled.md.

A run writes to SAVE_DIR/ENV/ALGORITHM/RUN/. `--resume` goes on with a run that was stopped. It restores the
networks, optimisers and replay buffer; episodes begin anew.
"""

from xql_jax.commands import command_line, training
from xql_jax.commands.run_flags import define_acting_flags, define_run_flags

from pathlib import Path

from absl import flags

from xql_jax.config_files import ONLINE
from xql_jax.runs.online import OnlineRun
from xql_jax.runs.platforms import prepare_acting
from xql_jax.runs.settings import ON_DIVERGENCE, ONLINE_INTERVALS, OnlineSettings

ROOT = Path(__file__).resolve().parents[1]


flags.DEFINE_string(
    "env_name", "cartpole-swingup", "Task, such as cheetah-run, HalfCheetah-v5 or playground:CheetahRun."
)
define_run_flags("steps of the environment", **ONLINE_INTERVALS)
define_acting_flags()
flags.DEFINE_enum(
    "on_divergence",
    "freeze",
    ON_DIVERGENCE,
    "What to do if a member's numbers stop being finite. freeze: keep its last finite state. restart: begin "
    "with new networks and the same buffer; the summary says so.",
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
    ONLINE,
)
FLAGS = flags.FLAGS


def main() -> int:
    prepare_acting()
    return training.train(OnlineRun, OnlineSettings, FLAGS)


if __name__ == "__main__":
    command_line.run(main)
