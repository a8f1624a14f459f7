"""What a user gives for a method: the config file, changes of its values, and the learner made of them."""

import contextlib
import os
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from xql_jax.config_files import (
    ENDING,
    file_for_suite,
    find_config,
    load,
    of_table_4,
    shipped,
    with_every_width,
)
from xql_jax.errors import UserError, nearest
from xql_jax.learners import fields
from xql_jax.learners.registry import (
    make_learner,
    method_of,
    unknown_setting,
)
from xql_jax.method_settings import (
    METHOD_SETTINGS,
    BufferSettings,
    DataSettings,
    FinetuningSettings,
    LearningSettings,
)
from xql_jax.settings import WIDTHS, Setting, settings_of
from xql_jax.tasks import OWN, Task, get_task, name_in_dm_control, own_attribute
from xql_jax.types import Json, Learner

NO_VALUES = ("algorithm", "suite")  # entries of a config that a user does not set
IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", tuple: "widths: 256,256"}


class ConfigFile(NamedTuple):
    """A file of hyperparameters, and the config that it gives, before the user changes it."""

    path: Path | None  # None: a ConfigDict that was made in Python
    config: ConfigDict


NO_SETTINGS: Mapping[str, Setting] = {}
EVERY_WIDTH = Setting(
    None,
    WIDTHS,
    "Widths of the hidden layers of all networks.",
    tuple,
    theirs="hidden hidden_dim hidden_size hidden_sizes width",
)


def check_suite(config: ConfigDict, task: Task) -> None:
    """Raises UserError if the config is for tasks of other suites, which have a file of their own."""
    suite = task.suite.name
    file = file_for_suite(suite)
    if file != file_for_suite(config.suite) and not task.suite.takes_any_config:
        raise UserError(
            f"--config is for {config.suite}, and {task.name} is of the suite {suite}: give "
            f"configs/{file}, or in a file of your own config_of(text, {suite!r})"
        )


def check_method(algorithm: str, kind: type[LearningSettings]) -> None:
    """Raises UserError unless METHOD or METHOD+POLICY is one of the kind's; the line says what trains it."""
    name = method_of(algorithm)
    if ":" in name:
        own_attribute(name, "--method")  # imports it: a user named it, not a file of a run
    if name in kind.methods:
        return
    hint = f"nearest known: {nearest(name, kind.methods)}"
    for other in (DataSettings, BufferSettings):
        if name in other.methods:
            hint = f"{other.command} trains it, in Python xql_jax.{other.function}"
    raise UserError(f"unknown method {name!r} here: {hint}")


def choose_config(
    kind: type[LearningSettings],
    method: str | None = None,
    config: str | None = None,
    *,
    env_name: str | None = None,
    has_data: bool = False,
    network: str = "paper",
) -> ConfigFile:
    """Returns the file that a user means, with the config that it gives for the method and the task.

    Args:
        kind: the class of the run's settings, or that of them in `method_settings`.
        method: METHOD or METHOD+POLICY. None: that of `config`, or the kind's default.
        config: FILE or FILE:METHOD, see `find_config`. None: the file for the method and the task's suite.
        env_name: the task. None: the default task, or data alone.
        has_data: whether there are data of the user's own.
        network: of online methods, the size of their networks.
    Raises:
        UserError: if there is no such method, task or file, or the two name different methods.
    """
    drive, path = os.path.splitdrive(config or "")  # the drive has a colon, too, on Windows
    file, _, own = path.partition(":")
    for name in (method, own):
        if name:
            check_method(name, kind)
    if method and own and own != method:
        raise UserError(f"--method={method}: --config={config} names another method: leave out one")
    chosen = own or method
    tags, suite = [env_name or ""], OWN.name if has_data else "pointmaze"  # which the default task is of
    if env_name and ":" in env_name and not issubclass(kind, BufferSettings):
        suite = OWN.name  # the user's own environment, which the run imports
    elif env_name:
        task = get_task(env_name)
        tags, suite = [name_in_dm_control(task)], task.suite.name
    tags += ["finetune"] * issubclass(kind, FinetuningSettings) + ["small"] * (network == "small")
    if config is None:
        online = f"online{ENDING}.py" if issubclass(kind, BufferSettings) else ""
        found, chosen = shipped("configs") / (online or file_for_suite(suite)), chosen or kind.default_method
    else:
        found = find_config(drive + file)
    return ConfigFile(found, for_kind(load(found, chosen, *tags), kind))


def for_kind(config: ConfigDict, kind: type[LearningSettings]) -> ConfigDict:
    """Returns the config without the settings of other kinds; UserError if its method is of another one."""
    check_method(config.algorithm, kind)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for name in METHOD_SETTINGS.keys() - settings_of(kind).keys():
            if name in config:
                del config[name]
    return config


def tuned(config: ConfigDict, env_name: str | None) -> Mapping[str, float]:
    """Returns Table 4's values for the task, by name; UserError if it has none for it or for the method."""
    if env_name is None:
        raise UserError("--tuned needs --env_name: its values are those of a task")
    file = shipped("configs") / file_for_suite(get_task(env_name).suite.name)
    return of_table_4(config.algorithm, env_name, runpy.run_path(str(file)).get("TUNED", {}))


def field_names(config: Mapping[str, object]) -> list[str]:
    """Returns the names of the values that a user may set."""
    names = [name for name in config if name not in NO_VALUES]
    return [*names, "hidden_dims"] if any(name.endswith("_hidden_dims") for name in names) else names


def settings_in(config: ConfigDict) -> dict[str, Setting]:
    """Returns the values that a user may set as settings, by name."""
    known = METHOD_SETTINGS | settings_of(make_learner(config.algorithm)) | {"hidden_dims": EVERY_WIDTH}
    return {name: known[name] for name in field_names(config)}


def with_fields(
    config: ConfigDict, values: Mapping[str, object], settings: Mapping[str, Setting] = NO_SETTINGS
) -> ConfigDict:
    """Returns a copy of the config with values set, which may be text as a user types it.

    Args:
        settings: what else can be set, which a message about an unknown name may suggest.
    Raises:
        UserError: if a name is unknown or a value has another type.
    """
    for name in values:
        if name not in field_names(config):
            raise unknown_setting(name, {**settings, **settings_in(config)}, config.algorithm)
    changed = config.copy_and_resolve_references()
    for name, value in with_every_width(values, config).items():
        kind = config.get_type(name)
        arguments = ["", f"--config.{name}={_as_text(value, kind)}"]
        parsed = flags.FlagValues()
        # ml_collections converts the text to the field's type, and writes it into `changed`.
        config_flags.DEFINE_config_dict("config", changed, flag_values=parsed, sys_argv=arguments)
        try:
            parsed(arguments)
        except (flags.Error, ValueError) as error:
            raise UserError(f"{name}={value!r}: must be {IN_WORDS.get(kind, 'text')}") from error
    return changed


def _as_text(value: object, kind: type) -> str:
    """Returns a value as ml_collections parses it: "1e3" and 1000.0 as 1000 for a field that is an int."""
    text = value if isinstance(value, str) else repr(value)
    if kind is tuple:
        return text.replace("/", ",")  # 256/256, where commas separate other things
    if kind is int:
        with contextlib.suppress(ValueError, OverflowError):
            number = float(text)
            return str(int(number)) if number.is_integer() else text
    return text


def learner_from_config(config: ConfigDict, max_steps: float) -> Learner:
    """Builds the learner, whose decaying learning rates reach 0 at `max_steps`; UserError for a bad field."""
    learner = make_learner(config.algorithm)
    values = {name: value for name, value in config.items() if name not in {*NO_VALUES, *METHOD_SETTINGS}}
    for name in fields.hyperparameters(learner):
        if name not in values:
            raise UserError(f"the config has no {name}, a field of {config.algorithm}")
    return fields.with_hyperparameters(learner, values).scheduled(max_steps)


def settings_by_name(identity: Json) -> Json:
    """Returns the settings in a run's config.json by their names on the command line."""
    settings = {name: value for name, value in identity.items() if name != "config"}
    return settings | {f"config.{name}": value for name, value in identity["config"].items()}
