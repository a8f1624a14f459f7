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

from xql_jax.commands import command_line, sweeping
from xql_jax.sweeps.settings import SweepSettings


def main(settings: SweepSettings) -> int:
    return sweeping.sweep(settings)


if __name__ == "__main__":
    command_line.run(main, SweepSettings, sweeping.with_flags_of_file)
