"""Which method and whose values a run has: a suite's rows, or a file in their place, `--config=FILE`.

A file's `get_config(text)` returns the config of `METHOD[+POLICY][@TAG...]`, such as
xql@antmaze-umaze-v0@tuned. A config is flat: `method` and `suite` say what it is for, and all else are
hyperparameters and the settings of a run that are declared by `by_config`, by name. The files in configs/ are
for users who know IQL's command line: they return a suite's rows. `layers.py` says which value wins.
"""

import dataclasses
import functools
import inspect
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xql_jax.errors import UserError, nearest, others_code
from xql_jax.files.paths import as_written, located
from xql_jax.learners.registry import ONLINE, make_learner, method_of, unknown_setting
from xql_jax.runs.kinds import DEFAULT_ENV_NAME, METHOD_SETTINGS, Finetune, Online, Training, check_method
from xql_jax.runs.layers import EVERY_WIDTH, FILE, OFF, TABLE_4, Layers, all_values, layers_of
from xql_jax.settings import Setting, neutral_values, settings_of, with_values
from xql_jax.suites import Values
from xql_jax.suites.online import DM_CONTROL_NAMES, ONLINE_VALUES, OWN
from xql_jax.suites.tasks import SUITES, Task, get_task, own_attribute
from xql_jax.types import Json

ENDING = "_config"


@dataclasses.dataclass(frozen=True)
class Config:
    """What a method has for a task and a kind of training: the layers below the user's."""

    kind: type[Training]
    method: str
    layers: Layers
    suite: str = ""  # whose rows are in the layers; a file says it, too
    origin: str = ""  # in words, for messages: the file, or the suite

    @functools.cached_property
    def values(self) -> Json:
        """All settings and hyperparameters by name, where the user gives none."""
        return self.layers.up_to(OFF)

    @functools.cached_property
    def learner(self) -> Any:
        """The method's learner with its values."""
        learner = make_learner(self.method)
        return with_values(learner, {name: self.values[name] for name in settings_of(learner)})

    @property
    def may_be_given(self) -> dict[str, Setting]:
        """What a user may give: the run's settings, the hyperparameters, and the widths of all networks."""
        known = settings_of(self.kind) | settings_of(self.learner)
        has_widths = any(name.endswith("_hidden_dims") for name in known)
        return known | ({"hidden_dims": EVERY_WIDTH} if has_widths else {})

    @property
    def may_be_in_files(self) -> dict[str, Setting]:
        """What a config file may choose: the hyperparameters, and what is declared `by_config`."""
        known, of_learner = self.may_be_given.items(), {*settings_of(self.learner), "hidden_dims"}
        return {name: setting for name, setting in known if setting.by_config or name in of_learner}


def choose_config(
    kind: type[Training], /, method: str | None = None, config: str | None = None, **asked: Any
) -> Config:
    """Returns the config for a method and a task: the suite's, or the config of the file that a user means.

    Args:
        kind: of training.
        method: METHOD or METHOD+POLICY. None: the method of `config`, or the kind's default.
        config: FILE or FILE:METHOD, see `find_config`. None: the values of the task's suite.
        asked: the user's settings. `env_name`, `dataset`, `network` and `tuned` decide, and `checkpoint`: the
            method is that run's if the user names no method.
    Raises:
        UserError: if there is no such method, task or file, or they contradict each other.
    """
    if issubclass(kind, Finetune) and asked.get("checkpoint") and not method:
        from xql_jax.runs.load import load_run  # only a checkpoint needs it

        of_run = load_run(asked["checkpoint"]).method
        method = of_run if of_run in kind.methods else None
    file, _, own = (config or "").partition(":")
    for name in filter(None, (method, own)):
        check_method(name, kind)
    if method and own and own != method:
        raise UserError(f"--method={method}: --config={config} names another method: leave out one")
    task, env_name = _task_of(kind, asked)
    tags = [DM_CONTROL_NAMES.get(task.name, task.name), task.suite.name] if task else [env_name]
    tags += ["finetune"] * issubclass(kind, Finetune) + ["small"] * (asked.get("network") == "small")
    is_tuned = bool(asked.get("tuned"))
    if config is not None:
        return _config_of_file(kind, find_config(file), own or method, task, tags, is_tuned)
    suite, is_online = task.suite if task else OWN, issubclass(kind, Online)
    values = ONLINE_VALUES if is_online else suite.values
    origin = "the online methods" if is_online else f"the suite {suite.name}"
    layers = layers_of(kind, method or kind.default_method, _with_tuned(tags, is_tuned), values)
    return Config(kind, method or kind.default_method, layers, suite.name, origin)


def _task_of(kind: type[Training], asked: Json) -> tuple[Task | None, str]:
    """Returns the task, None for data alone and a user's own environment, which the run imports; its name."""
    env_name = asked.get("env_name") or ""
    if not env_name and not asked.get("dataset"):
        env_name = kind().env_name or DEFAULT_ENV_NAME
    is_listed = env_name and (issubclass(kind, Online) or ":" not in env_name)
    return get_task(env_name) if is_listed else None, env_name


def _with_tuned(tags: Sequence[str], is_tuned: bool) -> list[str]:
    """Returns the tags, with `tuned` if Table 4's values are wanted; UserError if they name no task."""
    if is_tuned and not tags[0]:
        raise UserError("--tuned needs --env_name: its values are those of a task")
    return [*tags, *["tuned"] * is_tuned]


def _config_of_file(
    kind: type[Training],
    path: Path,
    method: str | None,
    task: Task | None,
    tags: Sequence[str],
    is_tuned: bool,
) -> Config:
    """Returns the config that a file gives: its changes lie over the rows of its suite.

    UserError if the file is for another suite than the task's, or --tuned changes nothing in it.
    """
    file = config_in(path, method, *tags)
    check_method(file.method, kind)
    _check_suite(file.suite, path, task, kind)
    plain, origin = values_in(kind, file), as_written(str(path)).removeprefix(f"{located('.')}/")
    rows = _values_of_suite(file.suite)
    layers = layers_of(kind, file.method, tags, rows)
    if not is_tuned:
        return Config(kind, file.method, layers.with_changes(FILE, plain), file.suite, origin)
    tags = _with_tuned(tags, is_tuned)
    of_suite = layers_of(kind, file.method, tags, rows)
    tuned = values_in(kind, config_in(path, method, *tags))
    if tuned == plain and of_suite[TABLE_4]:
        raise UserError(
            f"--tuned: {origin} gives the same values with and without: pass the text's tags on and "
            "keep Table 4's values, or leave --tuned out"
        )
    kept = {name: plain[name] for name, value in of_suite.up_to(TABLE_4).items() if tuned[name] != value}
    layers = layers.with_changes(FILE, plain).recording(FILE, kept).with_changes(TABLE_4, tuned)
    return Config(kind, file.method, layers, file.suite, origin)


def _check_suite(suite: str, path: Path, task: Task | None, kind: type[Training]) -> None:
    """Raises UserError if a file is for another suite than the task's, and is not `--config=own`."""
    if not task or issubclass(kind, Online) or task.suite.takes_any_config:
        return
    wanted, own = file_for_suite(task.suite.name), file_for_suite(OWN.name)
    if file_for_suite(suite) != wanted and path.name != own:
        known = " or ".join(f"configs/{name}" for name in dict.fromkeys((wanted, own)))
        raise UserError(
            f"--config is for {suite}, and {task.name} is of the suite {task.suite.name}: give {known}; a "
            f"file of your own calls config_of(text, {task.suite.name!r})"
        )


def config_of(text: str, suite: str) -> ConfigDict:
    """Returns a suite's config of `METHOD[+POLICY][@TAG...]`, locked: for files that `--config` names.

    Args:
        suite: a key of `SUITES` (`own`: data and environments of one's own), or `online`.
    """
    name, *tags = text.split("@")
    kind = Online if method_of(name) in ONLINE else Finetune
    if ":" in name:
        own_attribute(method_of(name), "--method")  # imports it: a user named it, not a file of a run
    config = Config(kind, name, layers_of(kind, name, tags, _values_of_suite(suite)))
    fields = [field for field in config.may_be_in_files if field in config.values]  # no `hidden_dims`
    chosen = {field: config.values[field] for field in fields}
    return ConfigDict({"method": name, "suite": suite, **chosen}).lock()


def _values_of_suite(name: str) -> Values:
    known = {suite.name: suite.values for suite in SUITES.values()} | {"online": ONLINE_VALUES}
    if name not in known:
        raise UserError(f"config: unknown suite {name!r}; nearest known: {nearest(name, known)}")
    return known[name]


def shipped(folder: str) -> Path:
    """Returns the path of `configs` or `experiments`: in the installed package, or next to it in a clone."""
    package = Path(__file__).resolve().parents[1]
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder


def find_config(name: str) -> Path:
    """Returns the file that a user means: by its path, or by its name among the package's; UserError if none.

    `kitchen` is short for `kitchen_config.py`.
    """
    path, folder = Path(name), shipped("configs")
    is_bare = path.parent in (Path(), Path("configs"))
    names = (path.name, f"{path.stem}.py", f"{path.stem}{ENDING}.py") if is_bare else ()
    for place in (located(name), *(folder / each for each in names)):
        if place.is_file():
            return place
    known = sorted(file.stem.removesuffix(ENDING) for file in folder.glob(f"*{ENDING}.py"))
    raise UserError(f"--config: no file {name!r}; configs/ of the package has: {', '.join(known)}")


def file_for_suite(suite: str) -> str:
    """Returns the name of the offline config for the tasks of a suite."""
    return f"{suite if suite == 'online' else SUITES[suite].config}{ENDING}.py"


def config_in(file: Path, method: str | None, *tags: str) -> ConfigDict:
    """Returns the config that the file gives for METHOD[+POLICY], or for its own default, and tags.

    UserError if the file does not load, or gives no config.
    """
    with others_code(f"--config={file}: gives no config as the files in configs/ do", UserError):
        get_config = runpy.run_path(str(file))["get_config"]
        text, *_ = inspect.signature(get_config).parameters.values()
        wanted = method or text.default
        if not isinstance(wanted, str):
            raise UserError(f"--config={file}: its get_config names no method by default: give --method")
        config: ConfigDict = get_config("@".join((wanted, *tags)))
        if "suite" not in config:
            raise KeyError("suite")
        if method not in (None, config.method):
            raise UserError(f"--config={file}: gives a config of {config.method}: leave out {method}")
        return config


def values_in(kind: type[Training], file: ConfigDict) -> Json:
    """Returns all settings and hyperparameters by a file's config; UserError if its names do not fit.

    Settings that a config cannot choose, or that this kind of training lacks, have their defaults. A
    hyperparameter that the file does not name is neutral, if that can be: the file may be older.
    """
    learner, of_run = make_learner(file.method), settings_of(kind)
    known = settings_of(learner)
    values = {**neutral_values(learner), **{name: file[name] for name in known if name in file}}
    if missing := known.keys() - values.keys():
        raise UserError(f"config: it has no {min(missing)}, a field of {file.method}")
    if unknown := [name for name in file if name not in {*known, *METHOD_SETTINGS, "method", "suite"}]:
        raise unknown_setting(unknown[0], known, file.method)
    of_kind = [name for name, setting in of_run.items() if setting.by_config and name in file]
    return all_values(kind, learner, values | {name: file[name] for name in of_kind})
