"""The flags that all training commands share, and the settings made from them."""

import dataclasses
from typing import Any, TypeVar

from absl import flags
from ml_collections import config_flags

from xql_jax.runs.settings import LOG_INTERVAL, MAX_STEPS, ON_DAMAGED_REPLAY, RunSettings
from xql_jax.training.checkpoints import KEPT
from xql_jax.training.schedule import Schedule

S = TypeVar("S")

flags.disclaim_key_flags()  # the flags count as the main's own, so that its `--help` lists them


def define_run_flags(unit: str, *, eval_interval: int, checkpoint_interval: int) -> None:
    """Defines the flags that every training has.

    Args:
        unit: what a step is, in the plural, such as "updates".
        eval_interval, checkpoint_interval: defaults of these flags.
    """

    def steps(name: str, default: int, help_text: str) -> None:
        """Defines a flag for a number of steps, which are counted in 32 bits."""
        flags.DEFINE_integer(name, default, help_text, lower_bound=1, upper_bound=2**31 - 1)

    flags.DEFINE_string("save_dir", "results", "Folder under which runs are written.")
    flags.DEFINE_integer("seed", 42, "First random seed.", lower_bound=0, upper_bound=2**31 - 1)
    flags.DEFINE_integer(
        "num_seeds", 1, "Number of seeds in one run: seed, seed + 1, ...", lower_bound=1, upper_bound=100_000
    )
    flags.DEFINE_string(
        "sweep", "", "Grid over traced hyperparameters, trained together: 'beta=0.6,1,2 tau=0.005,0.01'."
    )
    flags.DEFINE_integer(
        "eval_episodes",
        10,
        "Episodes of each evaluation, per seed; 0: no evaluation.",
        lower_bound=0,
        upper_bound=1_000_000,
    )
    flags.DEFINE_float(
        "random_return",
        None,
        "Return that is a score of 0, for a task without reference returns. Give --expert_return, too. "
        "Without both, the score is the return itself.",
    )
    flags.DEFINE_float("expert_return", None, "Return that is a score of 100, see --random_return.")
    steps("max_steps", MAX_STEPS, f"{unit.capitalize()}.")
    steps("log_interval", LOG_INTERVAL, f"{unit.capitalize()} between rows of metrics.csv.")
    steps("eval_interval", eval_interval, f"{unit.capitalize()} between evaluations.")
    flags.DEFINE_boolean(
        "eval_at_start", False, "Also evaluate before the first step: evaluations.csv gets a row for step 0."
    )
    steps("checkpoint_interval", checkpoint_interval, f"{unit.capitalize()} between checkpoints.")
    flags.DEFINE_float(
        "checkpoint_minutes",
        10.0,
        f"Also write a checkpoint when the last one is this old. 0: count {unit} only.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "keep_checkpoints",
        KEPT,
        "Number of checkpoints to keep, the last ones; fine-tuning also keeps its hand-over's. 0 keeps all, "
        "for experiments/collect.py --recipe.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )
    flags.DEFINE_boolean("tqdm", True, "Show a progress bar, if stderr is a terminal.")
    flags.DEFINE_boolean(
        "print_config",
        False,
        "Print every setting, its value, its source and its meaning. Train nothing.",
    )
    flags.DEFINE_boolean("resume", False, "Go on from the run's last checkpoint, or start if there is none.")


def define_data_flags() -> None:
    """Defines the flags of a training that learns from a dataset, except those that name the dataset."""
    flags.DEFINE_string(
        "dataset_url", None, "Where to download the task's own dataset, instead of D4RL's server."
    )
    flags.DEFINE_integer(
        "batch_size",
        None,
        "Transitions per update. Default: the method's own, 256 for most; with --tuned, Table 4's.",
        lower_bound=1,
        upper_bound=10_000_000,
    )
    flags.DEFINE_boolean(
        "tuned", False, "Apply the paper's per-dataset values (Table 4, in parentheses) to XQL."
    )
    flags.DEFINE_boolean(
        "normalize_observations",
        None,
        "Give each entry of the observations mean 0 and standard deviation 1. Default: as the "
        "method's authors did.",
    )
    flags.DEFINE_float(
        "top_returns",
        None,
        "Share of the transitions to learn from, taken from the trajectories with the highest returns. "
        "Default: all; with bc10, 0.1.",
        lower_bound=1e-6,
        upper_bound=1.0,
    )


def define_acting_flags() -> None:
    """Defines the flags of a training that acts in an environment."""
    flags.DEFINE_integer(
        "num_environments",
        1,
        "Environments per member, which are stepped together.",
        lower_bound=1,
        upper_bound=10_000,
    )
    flags.DEFINE_boolean("processes", False, "Run each environment in a process of its own.")
    flags.DEFINE_float(
        "environment_timeout",
        60.0,
        "With --processes, seconds to wait for an environment's answer or start. Then the run is saved and "
        "ends.",
        lower_bound=1.0,
    )
    flags.DEFINE_integer(
        "max_policy_lag",
        100,
        "Largest number of updates by which the acting policy may be behind the learner. It acts while the "
        "learner trains on the previous round.",
        lower_bound=1,
        upper_bound=1_000_000,
    )
    flags.DEFINE_enum(
        "on_damaged_replay",
        "stop",
        ON_DAMAGED_REPLAY,
        "What --resume does if files of the replay buffer are damaged. stop: go on from an older checkpoint "
        "whose buffer is whole, else stop. drop: go on from the last checkpoint with the undamaged "
        "transitions, and say how many are lost.",
    )


def settings_from(kind: type[S], values: flags.FlagValues, **others: Any) -> S:
    """Makes settings of class `kind`: each field takes the flag of its name, or its value in `others`."""

    def named(fields: type) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(fields) if field.name in values]
        return {name: values[name].value for name in names}

    if issubclass(kind, RunSettings):
        others["schedule"] = Schedule(**named(Schedule))
        others["config_overrides"] = frozenset(config_flags.get_override_values(values["config"]))
    if "tqdm" in values:
        others["show_progress"] = values.tqdm
    return kind(**{**named(kind), **others})
