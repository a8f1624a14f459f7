"""The work of the mains that train: print the settings, or train with them."""

from xql_jax.commands import printing
from xql_jax.commands.run_flags import settings_from

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from xql_jax.config_files import file_for_task
from xql_jax.configuration import DEFAULT, FLAG, OnlineFields, origins_of
from xql_jax.learners.descriptions import describe_fields
from xql_jax.learners.registry import make_learner
from xql_jax.runs.finetuning import OF_CHECKPOINT
from xql_jax.runs.run import TrainingRun
from xql_jax.runs.settings import FinetuneSettings

# Flags that are no settings of a run: they say what the program does, or what it shows.
NO_SETTINGS = ("print_config", "config", "resume", "tqdm")
NETWORK = 'Size of the networks: "paper", or "small" for a laptop.'  # a field of online configs only


class Setting(NamedTuple):
    """A setting of a run."""

    name: str  # of its flag, without --
    value: Any
    origin: str  # where the value is from, in words
    meaning: str


def train(kind: type[TrainingRun], settings_kind: type, values: flags.FlagValues) -> int:
    """Trains with the flags' settings, or prints these for `--print_config`; returns the exit code."""
    run = kind(settings_from(settings_kind, values))
    if values.print_config:
        print_settings(run, values)
        return 0
    takes_another_s = isinstance(run.settings, FinetuneSettings) and run.settings.checkpoint is not None
    if not values["config"].present and not takes_another_s:
        print(f"config: {_config_file(values)}, since none is given by --config", flush=True)
    return printing.train(run)


def default_config(folder: Path, arguments: Sequence[str]) -> Path:
    """Returns the config file to use if the command line has no --config; it depends on the task or data."""
    env_name, dataset = (_last_value(name, arguments) for name in ("env_name", "dataset"))
    return folder / file_for_task(env_name, dataset is not None)


def settings_of(run: TrainingRun, values: flags.FlagValues) -> Iterator[Setting]:
    """Yields the settings of a resolved run: first the flags, then the fields of its config."""
    for owner in (run.settings, run.settings.schedule):
        for name in (field.name for field in dataclasses.fields(owner)):
            if name not in values or name in NO_SETTINGS:
                continue
            flag, value = values[name], getattr(owner, name)
            origin = FLAG if flag.present else DEFAULT if value == flag.value else OF_CHECKPOINT
            value, origin = run.decided.get(name, (value, origin))
            yield Setting(name, value, origin, flag.help)
    origins = origins_of(run.config, run.settings.config_overrides)
    learner = make_learner(run.config.algorithm)
    described = [*describe_fields(learner), *describe_fields(OnlineFields())]
    meanings = {row.name: row.meaning for row in described} | {"network": NETWORK}
    for name, origin in origins.items():
        yield Setting(f"config.{name}", run.config[name], origin, meanings.get(name, ""))


def print_settings(run: TrainingRun, values: flags.FlagValues) -> None:
    """Prints the value that every setting would have in the run, where it is from, and what it means."""
    run.resolve()
    print(f"{run.request}; nothing is trained: these are the settings, as --NAME=VALUE (where it is from)")
    chosen = FLAG if values["config"].present else "chosen by the task"
    meaning = "The file of hyperparameters, and after a colon the method."
    print(f"--config={_config_file(values)} ({chosen}): {meaning}")
    for name, value, origin, meaning in settings_of(run, values):
        print(f"--{name}={_typed(value)} ({origin}): {' '.join(meaning.split())}")


def _config_file(values: flags.FlagValues) -> str:
    """Returns the config file's path, relative to the current folder if it lies below it."""
    name = config_flags.get_config_filename(values["config"])
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name


def _typed(value: Any) -> str:
    """Returns the value as it would be typed; "" if it is not set."""
    if value is None or (isinstance(value, Sequence) and not value):
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _last_value(flag: str, arguments: Sequence[str]) -> str | None:
    """Returns the last value that the arguments give a flag; None if they do not give it."""
    found = None
    for argument, following in itertools.zip_longest(arguments, arguments[1:]):
        if match := re.fullmatch(rf"--?{flag}(?:=(.*))?", argument, re.DOTALL):
            found = following if match[1] is None else match[1]
    return found
