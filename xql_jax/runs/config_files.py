"""Config files: a suite's values for its methods, as tables of rows.

A file's `get_config(text)` returns the config of `METHOD[+POLICY][@TAG...]`: xql@antmaze-umaze-v0@tuned. Tags
are the task, and what is done: `finetune`, `tuned` (Table 4), `small` (networks for a laptop). A config is
flat: `method` and `suite` say what it is for, and all else are hyperparameters and the settings of a run
that are declared by `by_config`, by name. Its values come in layers, of which later ones win: the fields' own
defaults, the method's (`Method`), the file's rows, its rows for the tags. After these come what the user
gives, and --sweep.
"""

import functools
import inspect
import os
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xql_jax.errors import UserError, nearest
from xql_jax.files.paths import located
from xql_jax.learners.registry import (
    IN_SAMPLE,
    ONLINE,
    all_hyperparameters,
    make_learner,
    method_named,
    method_of,
)
from xql_jax.runs.kinds import (
    DEFAULT_ENV_NAME,
    METHOD_SETTINGS,
    OF_OFFLINE,
    OF_ONLINE,
    Finetune,
    Offline,
    Online,
    Preset,
    Training,
)
from xql_jax.runs.resolving import with_every_width
from xql_jax.settings import values_of
from xql_jax.suites.tasks import OWN, SUITES, Task, get_task, name_in_dm_control, own_attribute

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
        when: rows that hold if a tag begins so, such as a task's name.
        tuned: XQL's values by task, for the tag `tuned`.
    Raises:
        UserError: if there is no such method, or no values for --tuned.
        AttributeError, ValueError: for a name in the rows that is no value of the methods.
    """
    name, *tags = text.split("@")
    method = method_of(name)
    if ":" in method:
        own_attribute(method, "--method")  # imports it: a user named it, not a file of a run
    recipe, of_runs = method_named(method), OF_ONLINE if method in ONLINE else OF_OFFLINE
    values = {one: setting.default for one, setting in of_runs.items()} | values_of(make_learner(name))
    config = ConfigDict({"method": name, "suite": suite, **values}).lock()
    config.update(recipe.settings)
    given = [one for start, one in (when or {}).items() if any(tag.startswith(start) for tag in tags)]
    for who, row in [pair for table in (rows, *given) for pair in table.items()]:
        if who == "in_sample" and (method in IN_SAMPLE or ":" in method):
            _set(config, {one: value for one, value in row.items() if one not in recipe.defaults})
        elif who == name:
            config.update(with_every_width(row, config))
        elif who == "all" or {method, recipe.like} & {*who.split()}:
            _set(config, row)
    if "tuned" in tags:
        config.update(of_table_4(name, tags[0], tuned))
    return config


def _set(config: ConfigDict, row: Mapping[str, Any]) -> None:
    """Sets those of the values that the method has. ValueError for a name that no method has."""
    for name, value in with_every_width(row, config).items():
        if name in config:
            config[name] = value
        elif name not in (known := all_hyperparameters().keys() | METHOD_SETTINGS.keys()):
            raise ValueError(f"no method has {name!r}; nearest known: {nearest(name, known)}")


def of_table_4(method: str, task: str, tuned: Rows) -> Mapping[str, Any]:
    """Returns Table 4's values for the task; UserError if it has none for it or for the method."""
    known = [one for one in tuned if method_of(method) == "xql" and one.split("-")[0] == task.split("-")[0]]
    if task not in known:
        has = nearest(task, known) if known else "none for this task or method"
        raise UserError(f"--tuned has no values for {task} with {method}; it has: {has}")
    return tuned[task]


@functools.cache
def shipped(folder: str) -> Path:
    """Returns the path of `configs` or `experiments`: in the installed package, or next to it in a clone."""
    package = Path(__file__).resolve().parents[1]
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder


def find_config(name: str) -> Path:
    """Returns the file that a user means by its path or its name; UserError if there is none.

    The path itself is tried first. For a bare name, or a name in `configs/`, the folder `configs` in the
    current folder is tried next, then the package's. `kitchen` is short for `kitchen_config.py`.
    """
    path, folders = Path(name), (located("configs"), shipped("configs"))
    is_bare = path.parent in (Path(), Path("configs"))
    names = (path.name, f"{path.stem}.py", f"{path.stem}{ENDING}.py") if is_bare else ()
    for place in (located(name), *(folder / each for folder in folders for each in names)):
        if place.is_file():
            return place
    known = [file.stem.removesuffix(ENDING) for file in shipped("configs").glob(f"*{ENDING}.py")]
    raise UserError(f"--config: no file {name!r}; configs/ of the package has: {', '.join(sorted(known))}")


def file_for_suite(suite: str) -> str:
    """Returns the name of the offline config for the tasks of a suite."""
    return f"{SUITES[suite].config if suite in SUITES else suite}{ENDING}.py"


def config_in(file: Path, method: str | None = None, *tags: str) -> ConfigDict:
    """Returns the config that the file gives for METHOD[+POLICY], or for its own default, and tags.

    Raises:
        UserError: if the file does not load, or gives no config.
    """
    try:
        get_config = runpy.run_path(str(file))["get_config"]
        parameters = [*inspect.signature(get_config).parameters.values()]
        if parameters and not method and not isinstance(parameters[0].default, str):
            raise UserError(f"--config={file}: its get_config names no method by default: give --method")
        texts = ["@".join((method or each.default, *tags)) for each in parameters[:1]]
        config = get_config(*texts)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code, and may fail in any way
        message = re.sub(
            "Other fields present: .*(?=Did you)", "", str(error), flags=re.DOTALL
        )  # ConfigDict's
        raise UserError(f"--config: {file} does not load: {type(error).__name__}: {message}") from error
    if not isinstance(config, ConfigDict) or "suite" not in config:
        raise UserError(f"--config={file}: gives no config: make it as the files in configs/ do")
    if method and config.method != method:
        raise UserError(f"--config={file}: gives a config of {config.method}: leave out {method}")
    return config


def choose_config(
    kind: type[Training],
    method: str | None = None,
    config: str | None = None,
    *,
    env_name: str | None = None,
    has_data: bool = False,
    network: str = "paper",
    tuned: bool = False,
    checkpoint: str | Path | None = None,
) -> Preset:
    """Returns what the file that a user means gives for the method and the task.

    Args:
        kind: of training.
        method: METHOD or METHOD+POLICY. None: that of `config`, or the kind's default.
        config: FILE or FILE:METHOD, see `find_config`. None: the file for the method and the task's suite.
        env_name: the task. None: the default task, or data alone.
        has_data: whether there are data of the user's own.
        network: of online methods, the size of their networks.
        tuned: whether Table 4's values for the task are wanted.
        checkpoint: a run, whose method is meant unless another is named.
    Raises:
        UserError: if there is no such method, task or file, or they contradict each other.
    """
    if checkpoint and not method:
        from xql_jax.runs.load import load_run  # which few choices need

        of_run = load_run(checkpoint).method
        method = of_run if of_run in kind.methods else None
    drive, path = os.path.splitdrive(config or "")  # the drive has a colon, too, on Windows
    file, _, own = path.partition(":")
    for name in (method, own):
        if name:
            check_method(name, kind)
    if method and own and own != method:
        raise UserError(f"--method={method}: --config={config} names another method: leave out one")
    is_online, chosen, task = issubclass(kind, Online), own or method, None
    if not env_name and not has_data:
        env_name = kind().env_name or DEFAULT_ENV_NAME
    if env_name and (":" not in env_name or is_online):  # else the user's own, which the run imports
        task = get_task(env_name)
    suite = task.suite.name if task else OWN.name
    tags = [name_in_dm_control(task) if task else env_name or ""]
    tags += ["finetune"] * issubclass(kind, Finetune) + ["small"] * (network == "small")
    if config is None:
        found = shipped("configs") / (f"online{ENDING}.py" if is_online else file_for_suite(suite))
        chosen = chosen or kind.default_method
    else:
        found = find_config(drive + file)
    untuned = config_in(found, chosen, *tags)
    check_method(untuned.method, kind)
    if task and not is_online:
        check_suite(untuned, task)
    if tuned and not tags[0]:
        raise UserError("--tuned needs --env_name: its values are those of a task")
    return Preset(found, config_in(found, chosen, *tags, "tuned") if tuned else untuned, untuned)


def check_suite(config: ConfigDict, task: Task) -> None:
    """Raises UserError if the config is for tasks of other suites, which have a file of their own."""
    suite = task.suite.name
    file = file_for_suite(suite)
    if file != file_for_suite(config.suite) and not task.suite.takes_any_config:
        raise UserError(
            f"--config is for {config.suite}, and {task.name} is of the suite {suite}: give "
            f"configs/{file}, or in a file of your own config_of(text, {suite!r})"
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
            hint = f"{other.command} trains it, in Python xql_jax.{other.function}"
    raise UserError(f"unknown method {name!r} here: {hint}")
