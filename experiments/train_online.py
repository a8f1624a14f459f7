"""Trains an online learner in a task of DM Control, in a Gymnasium task or in an embedded maze.

Examples:
  xql-train-online --env_name=cartpole-swingup --network=small --max_steps=100000
  xql-train-online --env_name=cheetah-run --method=xtd3_dq
  xql-train-online --env_name=walker-run --method=sac --num_seeds=3
  xql-train-online --env_name=playground:CheetahRun --num_environments=100

In the last example, environments are part of the compiled program, see docs/online.md.

A run writes to SAVE_DIR/TASK/METHOD/RUN/. `--resume` goes on with a run that was stopped. It restores the
networks, optimisers and replay buffer. Episodes begin anew, except in compiled simulators, where they go on.
"""

from xql_jax.runs.kinds import Online
from xql_jax.workshop.commands import command_line

if __name__ == "__main__":
    # Trained by `train_resolved` (xql_jax/runs/train.py), which makes a `HostTrainer`
    # (xql_jax/training/acting.py); xsac is in xql_jax/learners/sac.py.
    command_line.run(command_line.train_and_print, Online)
