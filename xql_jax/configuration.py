"""Configs: the files in configs/, their defaults, what a user changes, and the learner made of them.

A config is flat: `algorithm` and `suite` say what it is for, and all else are hyperparameters and settings
of `method_settings.py`, by name. The defaults come in three layers, of which later ones win: the fields' own
(in the learner's classes and in `method_settings.py`), the method's (`Method`, with its values for the
suite), and the config file's. After these come --tuned, what the user gives, and --sweep.
"""

import contextlib
import inspect
import os
import re
import runpy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from xql_jax.errors import UserError, nearest
from xql_jax.learners import fields
from xql_jax.learners.registry import (
    IN_SAMPLE,
    ONLINE,
    all_hyperparameters,
    make_learner,
    method_named,
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
from xql_jax.tasks import OWN, SUITES, Task, get_task, name_in_dm_control, own_attribute
from xql_jax.types import Json, Learner

NO_VALUES = ("algorithm", "suite")  # entries of a config that a user does not set
IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", tuple: "widths: 256,256"}
VARIANTS_OF_XQL = ("xql", "value_iteration", "q_iteration")  # methods that take XQL's values


class ConfigFile(NamedTuple):
    """A file of hyperparameters, and the config that it gives, before the user changes it."""

    path: Path | None  # None: a ConfigDict that was made in Python
    config: ConfigDict


ENDING = "_config"
NO_SETTINGS: Mapping[str, Setting] = {}
EVERY_WIDTH = Setting(
    None,
    WIDTHS,
    "Widths of the hidden layers of all networks.",
    tuple,
    theirs="hidden hidden_dim hidden_size hidden_sizes width",
)


def shipped(folder: str) -> Path:
    """Returns the path of `configs` or `experiments`: in the installed package, or next to it in a clone."""
    package = Path(__file__).resolve().parent
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder


def find_config(name: str) -> Path:
    """Returns the file that a user means by its path or its name; UserError if there is none.

    The path itself is tried first. For a bare name, or a name in `configs/`, the folder `configs` in the
    current folder is tried next, then the package's. `kitchen` is short for `kitchen_config.py`.
    """
    path, folders = Path(name), (Path("configs"), shipped("configs"))
    is_bare = path.parent in (Path(), Path("configs"))
    names = (path.name, f"{path.stem}.py", f"{path.stem}{ENDING}.py") if is_bare else ()
    for place in (path, *(folder / each for folder in folders for each in names)):
        if place.is_file():
            return place
    known = [file.stem.removesuffix(ENDING) for file in shipped("configs").glob(f"*{ENDING}.py")]
    raise UserError(f"--config: no file {name!r}; configs/ of the package has: {', '.join(sorted(known))}")


def file_for_suite(suite: str) -> str:
    """Returns the name of the offline config for the tasks of a suite."""
    return f"{SUITES[suite].config if suite in SUITES else suite}{ENDING}.py"


def check_suite(config: ConfigDict, task: Task) -> None:
    """Raises UserError if the config is for tasks of other suites, which have a file of their own."""
    suite = task.suite.name
    file = file_for_suite(suite)
    if file != file_for_suite(config.suite) and not task.suite.takes_any_config:
        raise UserError(
            f"--config is for {config.suite}, and {task.name} is of the suite {suite}: give "
            f"configs/{file}, or in a file of your own defaults(algorithm, {suite!r})"
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
    arguments = {"env_name": env_name or "", "network": network}
    suite = OWN.name if has_data else "pointmaze"  # which the default task is of
    if env_name and ":" in env_name and not issubclass(kind, BufferSettings):
        suite = OWN.name  # the user's own environment, which the run imports
    elif env_name:
        task = get_task(env_name)
        arguments["env_name"], suite = name_in_dm_control(task), task.suite.name
    if config is None:
        chosen = chosen or kind.default_method
        found = _file_for(method_of(chosen), kind, suite)
    else:
        found = find_config(drive + file)
    if chosen:
        arguments["algorithm"] = chosen
    if found.name == file_for_suite(suite):
        arguments["suite"] = suite
    return ConfigFile(found, load_config(found, kind, **arguments))


def _file_for(method: str, kind: type[LearningSettings], suite: str) -> Path:
    folder = shipped("configs")
    if issubclass(kind, BufferSettings):
        return folder / f"{method.removesuffix('_dq')}{ENDING}.py"
    file = folder / file_for_suite(suite)
    finetuning = file.with_name(f"{file.stem.removesuffix(ENDING)}_finetune{ENDING}.py")
    return finetuning if issubclass(kind, FinetuningSettings) and finetuning.exists() else file


def load_config(file: Path, kind: type[LearningSettings], **arguments: str) -> ConfigDict:
    """Returns what the file's get_config gives for those of the arguments that it takes.

    Raises:
        UserError: if the file does not load, or gives no config of that kind.
    """
    try:
        get_config = runpy.run_path(str(file))["get_config"]
        known = inspect.signature(get_config).parameters
        config = get_config(**{name: value for name, value in arguments.items() if name in known})
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code, and may fail in any way
        text = re.sub("Other fields present: .*(?=Did you)", "", str(error), flags=re.DOTALL)  # ConfigDict's
        raise UserError(f"--config: {file} does not load: {type(error).__name__}: {text}") from error
    if not isinstance(config, ConfigDict) or "suite" not in config:
        raise UserError(f"--config={file}: gives no config: make it as the files in configs/ do")
    return for_kind(config, kind)


def for_kind(config: ConfigDict, kind: type[LearningSettings]) -> ConfigDict:
    """Returns the config without the settings of other kinds; UserError if its method is of another one."""
    check_method(config.algorithm, kind)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for name in METHOD_SETTINGS.keys() - settings_of(kind).keys():
            if name in config:
                del config[name]
    return config


def tuned(config: ConfigDict, env_name: str | None) -> dict[str, float]:
    """Returns Table 4's values for the task, by name; UserError if it has none for it or for the method."""
    if env_name is None:
        raise UserError("--tuned needs --env_name: its values are those of a task")
    table = runpy.run_path(str(shipped("configs") / "table_4.py"))
    is_xql, robot = method_of(config.algorithm) == "xql", env_name.split("-")[0]
    known = [name for name in table["ROWS"] if is_xql and name.split("-")[0] == robot]
    if env_name not in known:
        has = nearest(env_name, known) if known else "none for this task or method"
        raise UserError(f"--tuned has no values for {env_name} with {config.algorithm}; it has: {has}")
    return dict(zip(table["COLUMNS"], table["ROWS"][env_name], strict=True))


def defaults(algorithm: str, suite: str = "", only: Collection[str] = ()) -> ConfigDict:
    """Returns the config of METHOD or METHOD+POLICY from which a config file starts; it is locked.

    Its values are the fields' own defaults, or the method's.

    Args:
        suite: the one of which it takes the method's values, see `Method.by_suite`.
        only: the methods that the file is for; empty: all. UserError for another.
    """
    method = method_of(algorithm)
    if ":" in method:
        own_attribute(method, "--method")  # imports it: a user named it, not a file of a run
    if only and method not in only:
        raise UserError(f"--config: its values are for {' and '.join(only)}, not for {algorithm}")
    settings = settings_of(BufferSettings if method in ONLINE else FinetuningSettings)
    values = {name: one.usual for name, one in settings.items()}
    values |= fields.hyperparameters(make_learner(algorithm))  # the fields' own, and `Method.defaults`
    config = ConfigDict({"algorithm": algorithm, "suite": suite, **values}).lock()
    recipe = method_named(method)
    config.update(recipe.settings)  # the method's, as what follows
    own = recipe.by_suite.get(suite, {})
    config.update({name: value for name, value in own.items() if method == algorithm or name in config})
    return config


def update_all(config: ConfigDict, **values: object) -> None:
    """Sets those of the values whose fields the method has: for values that are meant for all methods.

    `hidden_dims` are the widths of every network. Raises ValueError for a name that no method has.
    """
    config.update({name: value for name, value in _known(values, config).items() if name in config})


def update_in_sample(config: ConfigDict, **values: object) -> None:
    """Does the same in methods like XQL and in users' own, but for values that the method itself gives."""
    _known(values, config)
    method = method_of(config.algorithm)
    if method in IN_SAMPLE or ":" in method:
        recipe = method_named(method)
        own = {*recipe.defaults, *recipe.by_suite.get(config.suite, {})}
        update_all(config, **{name: value for name, value in values.items() if name not in own})


def _known(values: Mapping[str, object], config: ConfigDict) -> dict[str, object]:
    """Returns the values with every width; ValueError for a name that neither config nor any method has."""
    values = with_every_width(values, config)
    for name in values:
        if name not in config and name not in (
            known := all_hyperparameters().keys() | METHOD_SETTINGS.keys()
        ):
            raise ValueError(f"no method has {name!r}; nearest known: {nearest(name, known)}")
    return values


def with_every_width(values: Mapping[str, object], known: Collection[str]) -> dict[str, object]:
    """Returns the values with `hidden_dims`, if given, replaced by the widths of every network."""
    values = dict(values)
    if "hidden_dims" not in values:
        return values
    widths = values.pop("hidden_dims")
    every = {name: widths for name in known if name.endswith("_hidden_dims")}
    return every | values


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
