"""Trains a learner on a dataset (or takes a run of xql-train-offline), then fine-tunes it in the environment.

Examples:
  xql-train-finetune --num_pretraining_steps=20000 --max_steps=10000 --num_seeds=3
  xql-train-finetune --checkpoint=results/pointmaze-umaze-v0/xql/RUN --max_steps=10000
  xql-train-finetune --method=iql --offline_fraction=0.5
  xql-train-finetune --method=rlpd --max_steps=20000
  xql-train-finetune --online='beta=0.2:0.1 awr_temperature=10' --exploration_noise=0.1

Training has two phases. Before the hand-over, a step is an update; after it, a step is a step of the
environment, and there are --max_steps of these. A run writes to SAVE_DIR/TASK/METHOD/RUN/. `--resume` goes
on with a run that was stopped in either phase.
"""

from xql_jax.runs.kinds import Finetune
from xql_jax.workshop.commands import command_line

if __name__ == "__main__":
    # Trained by `train_resolved` (xql_jax/runs/train.py); `finetuning_trainers` (acting_runs.py beside it)
    # makes the trainers of both phases.
    command_line.run(command_line.train_and_print, Finetune)
