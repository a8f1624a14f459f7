"""Config files: a suite's values for its methods, as tables of rows; and what a user changes in them.

A file's `get_config(text)` returns the config of `METHOD[+POLICY][@TAG...]`: xql@antmaze-umaze-v0@tuned. Tags
are the task, its suite, and what is done: `finetune`, `tuned` (Table 4), `small` (networks for a laptop). A
config is flat: `method` and `suite` say what it is for, and all else are hyperparameters and the settings of
a run that are declared by `by_config`, by name. Its values come in layers, of which later ones win: the
fields' own defaults, the method's (`Method`), the file's rows, its rows for the tags; `config_from` checks
them. Over these `settings_from` lays what the user gives, and makes the run's value of all.
"""

import dataclasses
import functools
import inspect
import runpy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xql_jax.errors import UserError, nearest, others_code
from xql_jax.files.paths import located
from xql_jax.learners.registry import (
    IN_SAMPLE,
    ONLINE,
    all_hyperparameters,
    make_learner,
    method_named,
    method_of,
    unknown_setting,
)
from xql_jax.runs.kinds import (
    DEFAULT_ENV_NAME,
    KINDS,
    METHOD_SETTINGS,
    OF_OFFLINE,
    OF_ONLINE,
    Finetune,
    Offline,
    Online,
    Training,
)
from xql_jax.runs.load import load_run
from xql_jax.settings import WIDTHS, Setting, declared, settings_of, values_of, with_values
from xql_jax.suites.tasks import OWN, SUITES, get_task, name_in_dm_control, own_attribute
from xql_jax.types import Json

EVERY_WIDTH = Setting(None, WIDTHS, "Widths of the hidden layers of all networks.", tuple)
# Values by who has them: "all" methods, the "in_sample" ones and users' own, or names of methods by spaces. A
# method's row is also for methods that are `like` it.
Rows = Mapping[str, Mapping[str, Any]]
NONE: Rows = {}
ENDING = "_config"


def config_of(
    text: str, suite: str = "", rows: Rows = NONE, when: Mapping[str, Rows] | None = None, tuned: Rows = NONE
) -> ConfigDict:
    """Returns the locked config of `METHOD[+POLICY][@TAG...]`.

    Args:
        suite: the one whose tasks it is for.
        rows: the values by method; later rows win.
        when: rows that hold if a tag begins so, such as the name of a task or a suite.
        tuned: XQL's values by task, for the tag `tuned`.
    Raises:
        UserError: if there is no such method, or no values for --tuned; ValueError: for a row's unknown name.
    """
    name, *tags = text.split("@")
    method = method_of(name)
    if ":" in method:
        own_attribute(method, "--method")  # imports it: a user named it, not a file of a run
    recipe, of_runs = method_named(method), OF_ONLINE if method in ONLINE else OF_OFFLINE
    learner, of_run = make_learner(name), {one: setting.default for one, setting in of_runs.items()}
    config = ConfigDict({"method": name, "suite": suite, **of_run, **values_of(learner)}).lock()
    config.update(recipe.settings)
    own = {*recipe.defaults, *(one for owner, one, _ in declared(learner) if _redeclared(owner, one))}
    given = [one for start, one in (when or {}).items() if any(tag.startswith(start) for tag in tags)]
    for who, row in [pair for table in (rows, *given) for pair in table.items()]:
        is_in_sample = who == "in_sample" and (method in IN_SAMPLE or ":" in method)
        if not (is_in_sample or who in ("all", name) or {method, recipe.like} & {*who.split()}):
            continue
        is_for_others = who == "in_sample" or (":" in method and not {method, name} & {*who.split()})
        for field, value in with_every_width(row, config).items():
            if is_for_others and field in own:
                continue
            if field in config or who == name:
                config[field] = value
            elif field not in (known := all_hyperparameters().keys() | METHOD_SETTINGS.keys()):
                raise ValueError(f"no method has {field!r}; nearest known: {nearest(field, known)}")
    if "tuned" in tags:
        task = tags[0]
        alike = [one for one in tuned if method == "xql" and one.split("-")[0] == task.split("-")[0]]
        if task not in alike:
            has = nearest(task, alike) if alike else "none for this task or method"
            raise UserError(f"--tuned has no values for {task} with {name}; it has: {has}")
        config.update(tuned[task])
    return config


def _redeclared(owner: Any, name: str) -> bool:
    """Whether a user's own part has another value than the class of the package that it is derived from."""
    ours = next(base for base in type(owner).__mro__ if base.__module__.startswith("xql_jax."))
    return bool(getattr(ours, name, value := getattr(owner, name)) != value)


@functools.cache
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
    return f"{SUITES[suite].config if suite in SUITES else suite}{ENDING}.py"


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


@dataclasses.dataclass(frozen=True)
class Config:
    """What a config file gives for a method, a task and a kind of training; see `settings_from`."""

    kind: type[Training]
    method: str
    learner: Any
    settings: Json  # the run's, as far as the file has them
    path: Path | None = None  # None: it was made in Python
    untuned: "Config | None" = None  # without --tuned; None: the same

    @property
    def may_be_given(self) -> dict[str, Setting]:
        """What a user may give: the run's settings, the hyperparameters, and the widths of all networks."""
        known = settings_of(self.kind) | settings_of(self.learner)
        has_widths = any(name.endswith("_hidden_dims") for name in known)
        return known | ({"hidden_dims": EVERY_WIDTH} if has_widths else {})

    @property
    def may_be_in_files(self) -> dict[str, Setting]:
        """What a config file may choose."""
        of_learner, known = settings_of(self.learner), self.may_be_given.items()
        return {name: one for name, one in known if one.by_config or name in (*of_learner, "hidden_dims")}

    @property
    def values(self) -> Json:
        """All settings and hyperparameters by name, where the user gives none."""
        return values_of(self.kind(**self.settings)) | values_of(self.learner)

    @property
    def base(self) -> Json:
        """The same without --tuned."""
        return (self.untuned or self).values


def config_from(
    kind: type[Training], file: ConfigDict, path: Path | None = None, untuned: Config | None = None
) -> Config:
    """Returns what a file's config says for this kind of training; UserError if its names do not fit."""
    learner, of_kind = make_learner(file.method), settings_of(kind)
    known = settings_of(learner)
    if missing := known.keys() - {*file}:
        raise UserError(f"config: it has no {min(missing)}, a field of {file.method}")
    if unknown := [name for name in file if name not in {*known, *METHOD_SETTINGS, "method", "suite"}]:
        raise unknown_setting(unknown[0], known, file.method)
    of_run = {name: file[name] for name, one in of_kind.items() if one.by_config and name in file}
    kind(**of_run)  # checks them
    learner = with_values(learner, {name: file[name] for name in known})
    return Config(kind, file.method, learner, of_run, path, untuned)


def choose_config(
    kind: type[Training], /, method: str | None = None, config: str | None = None, **given: Any
) -> Config:
    """Returns the config that the file which a user means gives for method and task.

    Args:
        kind: of training.
        method: METHOD or METHOD+POLICY. None: that of `config`, or the kind's default.
        config: FILE or FILE:METHOD, see `find_config`. None: the file for the method and the task's suite.
        given: settings that the user gives, of which `env_name`, `dataset`, `network`, `tuned` and
            `checkpoint`, whose run's method is meant unless one is named, decide.
    Raises:
        UserError: if there is no such method, task or file, or they contradict each other.
    """
    if issubclass(kind, Finetune) and given.get("checkpoint") and not method:
        of_run = load_run(given["checkpoint"]).method
        method = of_run if of_run in kind.methods else None
    file, _, own = (config or "").partition(":")
    for name in filter(None, (method, own)):
        check_method(name, kind)
    if method and own and own != method:
        raise UserError(f"--method={method}: --config={config} names another method: leave out one")
    env_name, is_online = given.get("env_name") or "", issubclass(kind, Online)
    if not env_name and not given.get("dataset"):
        env_name = kind().env_name or DEFAULT_ENV_NAME
    is_named = env_name and (is_online or ":" not in env_name)  # else the run imports a user's environment
    task = get_task(env_name) if is_named else None
    usual = file_for_suite("online" if is_online else task.suite.name if task else OWN.name)
    found = find_config(file) if config is not None else shipped("configs") / usual
    tags = [name_in_dm_control(task), task.suite.name] if task else [env_name]
    tags += ["finetune"] * issubclass(kind, Finetune) + ["small"] * (given.get("network") == "small")
    chosen = own or method or (None if config is not None else kind.default_method)
    untuned = config_in(found, chosen, *tags)
    check_method(untuned.method, kind)
    if task and not (is_online or task.suite.takes_any_config) and usual != file_for_suite(untuned.suite):
        raise UserError(
            f"--config is for {untuned.suite}, and {task.name} is of the suite {task.suite.name}: give "
            f"configs/{usual}, or in a file of your own config_of(text, {task.suite.name!r})"
        )
    made = config_from(kind, untuned, found)
    if not given.get("tuned"):
        return made
    if not tags[0]:
        raise UserError("--tuned needs --env_name: its values are those of a task")
    return config_from(kind, config_in(found, chosen, *tags, "tuned"), found, made)


def settings_from(config: Config, values: Mapping[str, object], given: Iterable[str] | None = None) -> Any:
    """Returns the value of a run; UserError for a name or a value that cannot be.

    Args:
        config: what a config file has.
        values: what is laid over it: settings and hyperparameters by name, which may be text.
        given: the names of what the user gave; None: those of the values.
    """
    known, of_run, of_learner = config.may_be_given, settings_of(config.kind), settings_of(config.learner)
    for name in values:
        if name not in known:
            raise unknown_setting(name, [*known, "method"], config.method)
    names = [*(values if given is None else given)]
    chosen = with_every_width(values, of_learner)
    return config.kind(
        method=config.method,
        learner=with_values(config.learner, {name: chosen[name] for name in chosen if name in of_learner}),
        path=config.path,
        base=config.base,
        given=frozenset({*names, *with_every_width(dict.fromkeys(names), of_learner)}),
        **config.settings | {name: one for name, one in chosen.items() if name in of_run},
    )


def with_every_width(values: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Returns the values with `hidden_dims`, if given, replaced by the widths of every network."""
    others = {name: value for name, value in values.items() if name != "hidden_dims"}
    if "hidden_dims" not in values:
        return others
    widths = EVERY_WIDTH.checked("hidden_dims", values["hidden_dims"])
    return {name: widths for name in known if name.endswith("_hidden_dims")} | others


def as_plain(value: Training) -> Json:
    """Returns the value of a run as JSON has it, for another process."""
    return {
        "kind": value.kind,
        "method": value.method,
        "settings": values_of(value),
        "learner": values_of(value.learner),
        "given": sorted(value.given),
        "path": value.path and str(value.path),
        "base": value.base,
    }


def from_plain(plain: Json) -> Training:
    """Returns the value that `as_plain` was given. Imports the module of a user's own method."""
    check_method(plain["method"], KINDS[plain["kind"]])
    return KINDS[plain["kind"]](
        method=plain["method"],
        learner=make_learner(plain["method"], plain["learner"]),
        given=frozenset(plain["given"]),
        path=plain["path"] and Path(plain["path"]),
        base={name: tuple(one) if isinstance(one, list) else one for name, one in plain["base"].items()},
        **plain["settings"],
    )


def check_method(method: str, kind: type[Training]) -> None:
    """Raises UserError unless METHOD or METHOD+POLICY is one of the kind's; the line says what trains it."""
    name = method_of(method)
    if ":" in name:
        own_attribute(name, "--method")  # imports it: a user named it, not a file of a run
    if name in kind.methods:
        return
    hint = f"nearest known: {nearest(name, kind.methods)}"
    for other in (Offline, Online):
        if name in other.methods:
            hint = f"xql-train-{other.kind} trains it, in Python xql_jax.train{'_online' * (other is Online)}"
    raise UserError(f"unknown method {name!r} here: {hint}")
