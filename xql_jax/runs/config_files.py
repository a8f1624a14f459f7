"""Where a run's hyperparameters come from, in layers: here the value of a run is made.

Later layers win: the fields' own defaults; the method's (`Method`); the suite's rows, which stand beside its
tasks in suites/ (`layered`); what a user gives (`settings_from`). In place of the suite's rows a user may
name a file, `--config=FILE`. Its `get_config(text)` returns the config of `METHOD[+POLICY][@TAG...]`, such as
xql@antmaze-umaze-v0@tuned. A config is flat: `method` and `suite` say what it is for, and all else are
hyperparameters and the settings of a run that are declared by `by_config`, by name.
"""

import dataclasses
import inspect
import runpy
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xql_jax.errors import UserError, nearest, others_code
from xql_jax.files.paths import as_written, located
from xql_jax.learners.registry import (
    IN_SAMPLE,
    ONLINE,
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
from xql_jax.settings import WIDTHS, Setting, declared, neutral_values, settings_of, values_of, with_values
from xql_jax.suites import Values
from xql_jax.suites.online import DM_CONTROL_NAMES, ONLINE_VALUES, OWN
from xql_jax.suites.tasks import SUITES, get_task, own_attribute
from xql_jax.training.members import fields_given
from xql_jax.types import Json

EVERY_WIDTH = Setting(None, WIDTHS, "Widths of the hidden layers of all networks.", tuple)
ENDING = "_config"
DONE = ("finetune", "small")  # tags of what is done


def layered(name: str, tags: Sequence[str], values: Values) -> tuple[Any, Json]:
    """Returns METHOD[+POLICY] with a suite's values, and the settings of a run that these choose.

    Args:
        tags: the task, its suite, and what is done: `finetune`, `tuned` (Table 4), `small` networks.
    Raises:
        UserError: if there is no such method, or no values for --tuned.
    """
    method = method_of(name)
    if ":" in method:
        own_attribute(method, "--method")  # imports it: a user named it, not a file of a run
    recipe, learner = method_named(method), make_learner(name)
    of_run = OF_ONLINE if method in ONLINE else OF_OFFLINE
    known = settings_of(learner) | of_run
    own = {*recipe.defaults, *recipe.settings}
    own |= {one for owner, one, _ in declared(learner) if _redeclared(owner, one)}
    given = [one for start, one in values.when.items() if _is_met(start, tags)]
    chosen = dict(recipe.settings)
    for who, row in [pair for table in (values.rows, *given) for pair in table.items()]:
        is_in_sample = who == "in_sample" and (method in IN_SAMPLE or ":" in method)
        if not (is_in_sample or who in ("all", name) or {method, recipe.like} & {*who.split()}):
            continue
        is_for_others = who == "in_sample" or (":" in method and not {method, name} & {*who.split()})
        for field, value in with_every_width(row, known).items():
            if field in known and not (is_for_others and field in own):
                chosen[field] = _of_fields(value, known) if field == "online" else value
    if "tuned" in tags:
        task = tags[0]
        alike = [one for one in values.tuned if method == "xql" and one.split("-")[0] == task.split("-")[0]]
        if task not in alike:
            has = nearest(task, alike) if alike else "none for this task or method"
            raise UserError(f"--tuned has no values for {task} with {name}; it has: {has}")
        chosen |= values.tuned[task]
    settings = {one: chosen.get(one, setting.default) for one, setting in of_run.items()}
    of_learner = {one: value for one, value in chosen.items() if one not in of_run}
    return with_values(learner, of_learner), settings


def _is_met(start: str, tags: Sequence[str]) -> bool:
    """Whether a tag is what is done, `start`, or has a name that begins so."""
    return start in tags if start in DONE else any(tag.startswith(start) for tag in tags)


def _of_fields(online: str, known: Collection[str]) -> str:
    """Returns the changes at the hand-over of hyperparameters that the method has; others are for others."""
    return " ".join(f"{name}={values}" for name, values in fields_given(online) if name in known)


def config_of(text: str, suite: str) -> ConfigDict:
    """Returns a suite's config of `METHOD[+POLICY][@TAG...]`, locked: for files that `--config` names.

    Args:
        suite: a key of `SUITES` (`own`: data and environments of one's own), or `online`.
    """
    name, *tags = text.split("@")
    learner, settings = layered(name, tags, _values_of_suite(suite))
    return ConfigDict({"method": name, "suite": suite, **settings, **values_of(learner)}).lock()


def _values_of_suite(name: str) -> Values:
    known = {one: suite.values for one, suite in SUITES.items()} | {"online": ONLINE_VALUES}
    if name not in known:
        raise UserError(f"config: unknown suite {name!r}; nearest known: {nearest(name, known)}")
    return known[name]


def _redeclared(owner: Any, name: str) -> bool:
    """Whether a user's own part has another value than the class of the package that it is derived from."""
    ours = next(base for base in type(owner).__mro__ if base.__module__.startswith("xql_jax."))
    return bool(getattr(ours, name, value := getattr(owner, name)) != value)


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


@dataclasses.dataclass(frozen=True)
class Config:
    """What a method has for a task and a kind of training, before a user's settings; see `settings_from`."""

    kind: type[Training]
    method: str
    learner: Any
    settings: Json  # those of the run that a suite or a file chooses
    suite: str = ""  # whose values they are; a file says it, too
    origin: str = ""  # in words, for messages: the file, or the suite
    untuned: "Config | None" = None  # without --tuned; None: the same
    usual: Json | None = None  # the values of the suite that a config file is for; None: there is no file

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
    def by_file(self) -> frozenset[str]:
        """The names of what a config file has otherwise than its suite."""
        values, usual = self.values, self.usual or {}
        return frozenset(name for name, value in usual.items() if value != values[name])

    @property
    def base(self) -> Json:
        """The same without --tuned."""
        return (self.untuned or self).values


def config_by(
    kind: type[Training],
    name: str,
    tags: Sequence[str],
    values: Values,
    suite: str = "",
    origin: str = "",
) -> Config:
    """Returns what a suite's values say for this kind of training; see `layered`."""
    learner, settings = layered(name, tags, values)
    return Config(kind, name, learner, _of_kind(kind, settings), suite, origin)


def config_from(kind: type[Training], file: ConfigDict, origin: str = "") -> Config:
    """Returns what a file's config says for this kind of training; UserError if its names do not fit.

    A hyperparameter that it does not name is neutral, if that can be: the file may be older.
    """
    learner = make_learner(file.method)
    known = settings_of(learner)
    values = {**neutral_values(learner), **{name: file[name] for name in known if name in file}}
    if missing := known.keys() - values.keys():
        raise UserError(f"config: it has no {min(missing)}, a field of {file.method}")
    if unknown := [name for name in file if name not in {*known, *METHOD_SETTINGS, "method", "suite"}]:
        raise unknown_setting(unknown[0], known, file.method)
    learner = with_values(learner, values)
    return Config(kind, file.method, learner, _of_kind(kind, file), file.suite, origin)


def _of_kind(kind: type[Training], settings: Mapping[str, Any]) -> Json:
    """Returns those that this kind of training takes from a config, checked."""
    names = [name for name, one in settings_of(kind).items() if one.by_config and name in settings]
    made = kind(**{name: settings[name] for name in names})
    return {name: getattr(made, name) for name in names}


def choose_config(
    kind: type[Training], /, method: str | None = None, config: str | None = None, **given: Any
) -> Config:
    """Returns the config for a method and a task: that of the suite, or of the file that a user means.

    Args:
        kind: of training.
        method: METHOD or METHOD+POLICY. None: that of `config`, or the kind's default.
        config: FILE or FILE:METHOD, see `find_config`. None: the values of the task's suite.
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
    tags = [DM_CONTROL_NAMES.get(task.name, task.name), task.suite.name] if task else [env_name]
    tags += ["finetune"] * issubclass(kind, Finetune) + ["small"] * (given.get("network") == "small")
    suite = task.suite if task else OWN
    of_suite = ONLINE_VALUES if is_online else suite.values
    origin = "the online methods" if is_online else f"the suite {suite.name}"

    def with_tags(*every: str) -> Config:
        if config is None:
            return config_by(kind, method or kind.default_method, every, of_suite, suite.name, origin)
        path = find_config(file)
        found = config_in(path, own or method, *every)
        check_method(found.method, kind)
        is_fixed = task and not (is_online or suite.takes_any_config)
        if is_fixed and file_for_suite(suite.name) != file_for_suite(found.suite):
            raise UserError(
                f"--config is for {found.suite}, and {env_name} is of the suite {suite.name}: give "
                f"configs/{file_for_suite(suite.name)}, or in a file of your own "
                f"config_of(text, {suite.name!r})"
            )
        made = config_from(kind, found, as_written(str(path)).removeprefix(f"{located('.')}/"))
        usual = config_by(kind, found.method, every, _values_of_suite(found.suite)).values
        return dataclasses.replace(made, usual=usual)

    untuned = with_tags(*tags)
    if not given.get("tuned"):
        return untuned
    if not tags[0]:
        raise UserError("--tuned needs --env_name: its values are those of a task")
    tuned = with_tags(*tags, "tuned")
    if tuned.values == untuned.values and tuned.usual != untuned.usual:
        raise UserError(
            f"--tuned: {tuned.origin} gives the same values with and without: pass the text's tags on and "
            "keep Table 4's values, or leave --tuned out"
        )
    return dataclasses.replace(tuned, untuned=untuned)


def settings_from(config: Config, values: Mapping[str, object], given: Iterable[str] | None = None) -> Any:
    """Returns the value of a run; UserError for a name or a value that cannot be.

    Args:
        config: what the method has for the task, see `choose_config`: its learner was made by `layered`,
            before any value of a user.
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
        suite=config.suite,
        origin=config.origin,
        by_file=config.by_file,
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
        "suite": value.suite,
        "origin": value.origin,
        "by_file": sorted(value.by_file),
        "base": value.base,
    }


def from_plain(plain: Json) -> Training:
    """Returns the value that `as_plain` was given. Imports the module of a user's own method."""
    check_method(plain["method"], KINDS[plain["kind"]])
    return KINDS[plain["kind"]](
        method=plain["method"],
        learner=make_learner(plain["method"], plain["learner"]),
        given=frozenset(plain["given"]),
        suite=plain["suite"],
        origin=plain["origin"],
        by_file=frozenset(plain["by_file"]),
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
