"""Makes datasets: by policies in an environment, from an online run's replay buffer, or D4RL's five at once.

Examples:
  python experiments/collect.py --env_name=Hopper-v5 --policy=random --episodes=100 --output=random.hdf5
  python experiments/collect.py --env_name=pen-human-v1 --policy=pen.npz --policy=random --mixture=0.5,0.5 \\
      --transitions=50000 --output=pen-mixed.hdf5
  python experiments/collect.py --env_name=Hopper-v5 --policy=RUN/checkpoints/50000 --noise=0.1 \\
      --transitions=100000 --expert=RUN --output=medium.hdf5
  python experiments/collect.py --replay=RUN --until=50000 --output=replay.hdf5
  python experiments/collect.py --recipe --run=RUN --transitions=100000 --save_dir=data

RUN is a run's folder, such as results/Hopper-v5/sac/seed0_1a2b3c4d. A file is in D4RL's layout, for
`train_offline.py --env_name=TASK --dataset=FILE`; under metadata/ it says how it was made. The same command
makes the same bytes.
"""

from xql_jax.commands import command_line, printing
from xql_jax.commands.run_flags import settings_from

import dataclasses

from absl import flags

from xql_jax.errors import UserError
from xql_jax.runs.collection import CollectionRun
from xql_jax.runs.recipe import RecipeRun
from xql_jax.runs.settings import FORMATS, CollectionSettings, RecipeSettings

flags.DEFINE_string(
    "env_name", None, "Task, as experiments/evaluate.py takes it; of a run its own when left out."
)
flags.DEFINE_string("output", None, "FILE.hdf5 to write, or with --format=minari a folder; new ones.")
flags.DEFINE_enum(
    "format", "hdf5", FORMATS, "hdf5: D4RL's layout; minari: a folder, to be read as minari:FOLDER."
)
flags.DEFINE_multi_string(
    "policy",
    [],
    "What acts: a run's folder or one of its checkpoints; random; or FILE.npz, a Gaussian MLP. Several, each "
    "with its own --policy, take turns by the episode.",
)
flags.DEFINE_string(
    "mixture", "", "The policies' shares of the episodes, such as 0.75,0.25; equal ones when left out."
)
flags.DEFINE_string(
    "noise", "", "Standard deviation of Gaussian noise on actions, then clipped; one number, or one a policy."
)
flags.DEFINE_boolean("deterministic", False, "Act by the policies' means or modes, not by samples.")
flags.DEFINE_integer(
    "transitions",
    None,
    "How many to collect, the last episode cut off by a time-out; of the recipe's sets each.",
    lower_bound=1,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer("episodes", None, "How many to collect, whole.", lower_bound=1, upper_bound=2**31 - 1)
flags.DEFINE_integer(
    "seed", 0, "Episode e starts and goes by (seed, e) alone.", lower_bound=0, upper_bound=2**31 - 1
)
flags.DEFINE_string("replay", None, "The folder of an online run: write its replay buffer.")
flags.DEFINE_integer(
    "until",
    None,
    "Of --replay, as the buffer was after that many transitions; as it is when left out.",
    lower_bound=2,
    upper_bound=2**31 - 1,
)
flags.DEFINE_integer(
    "member", None, "Of runs, counted from 0; needed where they have several.", lower_bound=0
)
flags.DEFINE_float("random_return", None, "The return that is a score of 0; measured when left out.")
flags.DEFINE_float("expert_return", None, "The return that is a score of 100, to be written with the data.")
flags.DEFINE_multi_string(
    "expert", [], "Policies, as for --policy; the best one's return, which is measured, is the expert's."
)
flags.DEFINE_integer(
    "reference_episodes",
    100,
    "Of each policy whose return is measured.",
    lower_bound=1,
    upper_bound=1_000_000,
)
flags.DEFINE_boolean(
    "recipe",
    False,
    "Make D4RL's sets: random, medium, medium-replay, expert and medium-expert; what is there stays.",
)
flags.DEFINE_string(
    "run", None, "Of the recipe: an online run that has ended, of which --keep_checkpoints=0 kept all."
)
flags.DEFINE_string("save_dir", "data", "Of the recipe: the folder of the sets.")
flags.DEFINE_boolean("dry_run", False, "Print what would be done, once it is known to be possible.")
flags.DEFINE_boolean("tqdm", True, "Show a progress bar, where stderr is a terminal.")
command_line.define_environment_flags()
FLAGS = flags.FLAGS


def main() -> int:
    kind = RecipeSettings if FLAGS.recipe else CollectionSettings
    _check_flags(kind, RecipeSettings, CollectionSettings)
    settings = settings_from(kind, FLAGS)
    run = RecipeRun(settings) if isinstance(settings, RecipeSettings) else CollectionRun(settings)
    return printing.collect(run, FLAGS.dry_run)


def _check_flags(kind: type, *kinds: type) -> None:
    """Raises UserError for flags that are given, and mean nothing to what is asked for."""
    known = {field.name for field in dataclasses.fields(kind)}
    others = {field.name for each in kinds for field in dataclasses.fields(each)}
    unfit = [f"--{name}" for name in sorted(others - known) if name in FLAGS and FLAGS[name].present]
    if unfit:
        raise UserError(f"{', '.join(unfit)}: {'not with' if FLAGS.recipe else 'only with'} --recipe")


if __name__ == "__main__":
    command_line.run(main)
