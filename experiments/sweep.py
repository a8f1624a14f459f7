"""Trains datasets × methods × settings × seeds, here or on many machines, and writes their table.

Examples:
  python experiments/sweep.py --datasets=pointmaze-umaze-v0 --methods=xql,iql --sweep='beta=0.1,0.5' --dry_run
  python experiments/sweep.py --datasets=cheetah-run --methods=xsac,sac:network=small --max_steps=500000
  python experiments/sweep.py sweep.yaml --max_steps=100000 --num_seeds=3
  python experiments/sweep.py sweep.yaml --executor=ray
  python experiments/sweep.py sweep.yaml --executor=ray --ray_address=10.0.0.1:6379 --task_gpus=0.5
  python experiments/sweep.py sweep.yaml --executor=slurm --task_gpus=1 --slurm_options=partition=gpu

sweep.yaml gives flags by their names; flags on the command line take precedence:
  datasets: [kitchen-complete-v0, pointmaze-umaze-v0]
  methods: [xql, mxql, iql]
  sweep: {beta: [0.1, 0.5, 2], loss: [plain, rescaled]}
  num_seeds: 6
  max_steps: 30000

One run trains all seeds, and all values of numeric hyperparameters that --sweep of train_offline.py accepts,
in one program. Everything else makes a run of its own, as with train_offline.py and train_online.py. If the
sweep is stopped or killed, the same command trains the rest. Writes OUT/NAME.{txt,csv,md,tex}, as
reproduce.py does.
"""

from xql_jax.commands import command_line, sweep_flags, sweeping

import functools
from pathlib import Path

from absl import flags

from xql_jax.errors import UserError
from xql_jax.learners.registry import ONLINE
from xql_jax.runs.platforms import prepare_acting
from xql_jax.runs.settings import SweepSettings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"

sweep_flags.define_sweep_flags("", "")
flags.DEFINE_boolean(
    "finetune",
    False,
    "Fine-tune online after offline training, as train_finetune.py with configs/SUITE_finetune_config.py "
    "where there is one; --max_steps are its steps.",
)
flags.DEFINE_string("name", "sweep", "Name of the tables' files in --out.")
FLAGS = flags.FLAGS


def main(file: str | None = None) -> int:
    if file:
        sweep_flags.apply_file(Path(file), FLAGS)
    for flag in ("datasets", "methods"):
        if not FLAGS[flag].value:
            raise UserError(f"--{flag}: give at least one, see --help")
    if FLAGS.finetune or any(method.split(":")[0] in ONLINE for method in FLAGS.methods):
        prepare_acting()
    settings = sweep_flags.sweep_settings(SweepSettings, FLAGS, CONFIGS)
    output = sweeping.Output(FLAGS.out, FLAGS.name)
    executor = functools.partial(sweep_flags.make_executor, FLAGS)
    return sweeping.sweep(settings, executor, output, dry_run=FLAGS.dry_run, download=FLAGS.download)


if __name__ == "__main__":
    command_line.run(main, max_arguments=1)
