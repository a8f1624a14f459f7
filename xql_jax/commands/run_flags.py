"""The flags that every training has, and the settings that they make."""

import dataclasses
from typing import Any, TypeVar

from absl import flags
from ml_collections import config_flags

from xql_jax.runs.settings import RunSettings
from xql_jax.training.checkpoints import KEPT
from xql_jax.training.loop import Schedule

S = TypeVar("S")

flags.disclaim_key_flags()  # they are the main's, whose `--help` lists them


def define_run_flags(unit: str, *, eval_interval: int, checkpoint_interval: int) -> None:
    """Defines the flags of a training whose steps are `unit`s, in the plural; the intervals are defaults."""

    def steps(name: str, default: int, help_text: str) -> None:
        """A number of steps, which are counted in 32 bits."""
        flags.DEFINE_integer(name, default, help_text, lower_bound=1, upper_bound=2**31 - 1)

    flags.DEFINE_string("save_dir", "results", "Folder under which runs are written.")
    flags.DEFINE_integer("seed", 42, "First random seed.", lower_bound=0, upper_bound=2**31 - 1)
    flags.DEFINE_integer(
        "num_seeds", 1, "Seeds seed, seed + 1, ... in one run.", lower_bound=1, upper_bound=100_000
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
    steps("max_steps", 1_000_000, f"{unit.capitalize()}.")
    steps("log_interval", 1_000, f"{unit.capitalize()} between rows of metrics.csv.")
    steps("eval_interval", eval_interval, f"{unit.capitalize()} between evaluations.")
    steps("checkpoint_interval", checkpoint_interval, f"{unit.capitalize()} between checkpoints.")
    flags.DEFINE_float(
        "checkpoint_minutes",
        10.0,
        f"A checkpoint also when the last is this old; 0: by {unit} alone.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "keep_checkpoints",
        KEPT,
        "The last so many stay; 0: all, as experiments/collect.py --recipe needs them.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )
    flags.DEFINE_boolean("tqdm", True, "Show a progress bar, where stderr is a terminal.")
    flags.DEFINE_boolean("resume", False, "Go on from the run's last checkpoint, or start if there is none.")


def settings_from(kind: type[S], values: flags.FlagValues, **others: Any) -> S:
    """Makes settings of that kind from the flags that have their fields' names, and from others."""

    def named(fields: type) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(fields) if field.name in values]
        return {name: values[name].value for name in names}

    if issubclass(kind, RunSettings):
        others["schedule"] = Schedule(**named(Schedule))
        others["config_overrides"] = frozenset(config_flags.get_override_values(values["config"]))
    return kind(**{**named(kind), "show_progress": values.tqdm, **others})
