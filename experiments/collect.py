"""Makes datasets: from a policy, an ant walking to waypoints, or a replay buffer.

Examples:
  python experiments/collect.py --env_name=Hopper-v5 --policy=random --episodes=100 --output=random.hdf5
  python experiments/collect.py --env_name=pen-human-v1 --policy=pen.npz --episodes=250 --output=pen.hdf5
  python experiments/collect.py --append --env_name=pen-human-v1 --policy=random --episodes=250 \\
      --output=pen.hdf5
  python experiments/collect.py --env_name=Hopper-v5 --policy=RUN/checkpoints/50000 --noise=0.1 \\
      --transitions=100000 --expert=RUN --output=medium.hdf5
  python experiments/collect.py --waypoints --env_name=antmaze-umaze-v2 --transitions=200000 \\
      --output=umaze.hdf5
  python experiments/collect.py --replay=RUN --until=50000 --output=replay.hdf5

RUN is a run's folder, such as results/Hopper-v5/sac/seed0_1a2b3c4d. Files are in D4RL's layout, and can be
used with `train_offline.py --env_name=TASK --dataset=FILE`. The group metadata/ in a file says how it was
made. The same command makes the same bytes.
"""

from xql_jax.commands import command_line, printing
from xql_jax.commands.run_flags import settings_from

from absl import flags

from xql_jax.runs.collection import CollectionRun
from xql_jax.runs.settings import FORMATS, CollectionSettings

flags.DEFINE_string(
    "env_name",
    None,
    "Task, as for experiments/evaluate.py. --policy needs it; with --replay, the run's own.",
)
flags.DEFINE_string(
    "output", None, "FILE.hdf5 to write, or a folder with --format=minari. It must not exist yet."
)
flags.DEFINE_boolean("append", False, "If --output exists, add the rows to it.")
flags.DEFINE_enum(
    "format", "hdf5", FORMATS, "hdf5: D4RL's layout; minari: a folder, to be read as minari:FOLDER."
)
flags.DEFINE_string(
    "policy",
    None,
    "Policy that acts: a run's folder or one of its checkpoints; `random`; or FILE.npz, a Gaussian MLP or an "
    "exported policy.",
)
flags.DEFINE_float(
    "noise",
    0.0,
    "Standard deviation of Gaussian noise on actions, which are then clipped.",
    lower_bound=0.0,
)
flags.DEFINE_boolean("deterministic", False, "Use the policy's mode instead of sampling.")
flags.DEFINE_integer(
    "transitions",
    None,
    "Transitions to collect; a time-out ends the last episode.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer("episodes", None, "Whole episodes to collect.", lower_bound=1, upper_bound=2**31 - 1)
flags.DEFINE_integer(
    "seed",
    0,
    "Random seed. Episode e depends on (seed, e) alone; with --waypoints, all episodes depend on the seed.",
    lower_bound=0,
    upper_bound=2**31 - 1,
)
flags.DEFINE_boolean(
    "waypoints",
    False,
    "Make antmaze-* data as D4RL does: an ant walks between waypoints, with a policy that is included.",
)
flags.DEFINE_string("replay", None, "Folder of an online run whose replay buffer is written.")
flags.DEFINE_integer(
    "until",
    None,
    "With --replay, write the buffer as it was after that many transitions. Default: the last.",
    lower_bound=2,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer(
    "member", None, "Member of the runs, counted from 0. Needed for runs with several members.", lower_bound=0
)
flags.DEFINE_float("random_return", None, "Return that is a score of 0. Default: measured.")
flags.DEFINE_float("expert_return", None, "Return that is a score of 100, written with the data.")
flags.DEFINE_multi_string(
    "expert",
    [],
    "Policies, as for --policy, whose returns are measured; the best is the return of score 100.",
)
flags.DEFINE_integer(
    "reference_episodes",
    100,
    "Episodes for each return that is measured.",
    lower_bound=1,
    upper_bound=1_000_000,
)
flags.DEFINE_boolean("dry_run", False, "Check everything and print what would be done, but collect nothing.")
flags.DEFINE_boolean("tqdm", True, "Show a progress bar, where stderr is a terminal.")
command_line.define_environment_flags()
FLAGS = flags.FLAGS


def main() -> int:
    return printing.collect(CollectionRun(settings_from(CollectionSettings, FLAGS)), FLAGS.dry_run)


if __name__ == "__main__":
    command_line.run(main)
