"""Trains datasets × methods × settings × seeds, here or on many machines, and writes their table.

Examples:
  xql-sweep --datasets=pointmaze-umaze-v0 --methods=xql,iql --sweep='beta=0.1,0.5' --dry_run
  xql-sweep --datasets=cheetah-run --methods=xsac,sac:network=small --max_steps=500000
  xql-sweep sweep.yaml --max_steps=100000 --num_seeds=3
  xql-sweep sweep.yaml --executor=ray
  xql-sweep sweep.yaml --executor=ray --ray_address=10.0.0.1:6379 --task_gpus=0.5
  xql-sweep sweep.yaml --executor=slurm --task_gpus=1 --slurm_options=partition=gpu

sweep.yaml gives flags by their names; flags on the command line take precedence:
  datasets: [kitchen-complete-v0, pointmaze-umaze-v0]
  methods: [xql, mxql, iql]
  sweep: {beta: [0.1, 0.5, 2], loss: [plain, rescaled]}
  num_seeds: 6
  max_steps: 30000

One run trains all seeds, and all values of numeric hyperparameters that --sweep of xql-train-offline accepts,
in one program. Everything else makes a run of its own, as with xql-train-offline and xql-train-online. If the
sweep is stopped or killed, the same command trains the rest. Writes OUTPUT/NAME.{txt,csv,md,tex}, as
xql-reproduce does.
"""

from xql_jax.commands import command_line, sweeping
from xql_jax.sweeps.settings import SweepSettings


def main(settings: SweepSettings) -> int:
    return sweeping.sweep(settings)


if __name__ == "__main__":
    command_line.run(main, SweepSettings, sweeping.with_flags_of_file)
