"""Trains an offline learner on a D4RL task, an embedded maze or a dataset of your own.

Examples:
  xql-train-offline --env_name=pointmaze-umaze-v0 --max_steps=30000 --num_seeds=3
  xql-train-offline --env_name=kitchen-complete-v0 --method=iql+reverse_kl
  xql-train-offline --method=iql --expectile=0.8
  xql-train-offline --sweep='beta=0.1,0.2,0.3' --num_seeds=2 --max_steps=30000
  xql-train-offline --dataset=mine.npz  # no environment: no evaluation
  xql-train-offline --env_name=hopper-medium-v2 --tuned

A run writes to SAVE_DIR/ENV/ALGORITHM/RUN/. `--resume` goes on with a run that was stopped.
"""

from absl import flags

from xql_jax.commands import command_line, messages
from xql_jax.runs.offline import offline_job, run_offline
from xql_jax.runs.run_settings import OfflineSettings


def main(settings: OfflineSettings) -> int:
    job = offline_job(settings)
    if flags.FLAGS.print_config:
        return messages.print_settings(job)
    messages.print_beginning(job)
    return messages.print_end(run_offline(job))


if __name__ == "__main__":
    command_line.run(main, OfflineSettings)
