"""Makes datasets: from a policy or a replay buffer.

Examples:
  xql-collect --env_name=Hopper-v5 --policy=random --episodes=100 --output=random.hdf5
  xql-collect --env_name=pen-human-v1 --policy=pen.npz --episodes=250 --output=pen.hdf5
  xql-collect --env_name=Hopper-v5 --policy=RUN/checkpoints/50000 --noise=0.1 \\
      --transitions=100000 --random_return=20 --expert_return=3000 --output=medium.hdf5
  xql-collect --replay=RUN --until=50000 --output=replay.hdf5

RUN is a run's folder, such as results/Hopper-v5/sac/seed0_1a2b3c4d. Files are in D4RL's layout, and can be
used with `xql-train-offline --env_name=TASK --dataset=FILE`. The group metadata/ in a file says how it was
made. The same command makes the same bytes. Ctrl-C keeps the episodes that have ended.
AntMaze's and OGBench's sets are made by scripts in examples/.
"""

from xql_jax.files.paths import as_written
from xql_jax.workshop.commands import command_line
from xql_jax.workshop.tools.collect import CollectionSettings, collect


def main(settings: CollectionSettings) -> int:
    made = collect(settings)
    score = "" if made["mean_score"] is None else f", score {made['mean_score']:.1f}"
    whole = made["whole_episodes"]
    of_them = "" if whole == made["episodes"] else f" of the {whole:,} whole episodes:"
    stopped = f"stopped by {made['stopped_by'].name}, what had ended is kept: " if made["stopped_by"] else ""
    print(
        f"{stopped}{as_written(made['output'])}: {made['transitions']:,} transitions, "
        f"{made['episodes']:,} episodes, {made['terminals']:,} terminal; "
        f"mean return{of_them} {made['mean_return']:.4g}{score}"
    )
    return 128 + made["stopped_by"] if made["stopped_by"] else 0


if __name__ == "__main__":
    command_line.run(main, CollectionSettings)
