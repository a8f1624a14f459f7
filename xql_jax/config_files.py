"""The files in configs/: where they are, how one is chosen, and how it is loaded."""

import inspect
import re
import runpy
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from xql_jax.errors import UserError, nearest
from xql_jax.learners import registry
from xql_jax.learners.registry import method_of
from xql_jax.method_settings import (
    METHOD_SETTINGS,
    BufferSettings,
    DataSettings,
    FinetuningSettings,
    LearningSettings,
)
from xql_jax.settings import settings_of
from xql_jax.tasks import OWN, SUITES, Task, get_task, name_in_dm_control, own_attribute


class Kind(NamedTuple):
    """A kind of training: what does it, the methods that it is for, and what their configs have."""

    command: str
    function: str  # of `xql_jax`, which does the same
    methods: Collection[str]
    default: str  # the method if none is named
    settings: type[LearningSettings]  # those in its configs


OFFLINE_TRAINING = Kind("xql-train-offline", "train", registry.OFFLINE, "xql", DataSettings)
FINETUNING = Kind("xql-train-finetune", "train_finetune", registry.OFFLINE, "xql", FinetuningSettings)
ONLINE_TRAINING = Kind("xql-train-online", "train_online", registry.ONLINE, "xsac", BufferSettings)


class ConfigFile(NamedTuple):
    """A file of hyperparameters, and the config that it gives, before the user changes it."""

    path: Path | None  # None: a ConfigDict that was made in Python
    config: ConfigDict


ENDING = "_config"


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


def check_method(algorithm: str, kind: Kind) -> None:
    """Raises UserError unless METHOD or METHOD+POLICY is one of the kind's; the line says what trains it."""
    name = method_of(algorithm)
    if ":" in name:
        own_attribute(name, "--method")  # imports it: a user named it, not a file of a run
    if name in kind.methods:
        return
    hint = f"nearest known: {nearest(name, kind.methods)}"
    for other in (OFFLINE_TRAINING, ONLINE_TRAINING):
        if name in other.methods:
            hint = f"{other.command} trains it, in Python xql_jax.{other.function}"
    raise UserError(f"unknown method {name!r} here: {hint}")


def choose_config(
    kind: Kind,
    method: str | None = None,
    config: str | None = None,
    *,
    env_name: str | None = None,
    has_data: bool = False,
    network: str = "paper",
) -> ConfigFile:
    """Returns the file that a user means, with the config that it gives for the method and the task.

    Args:
        method: METHOD or METHOD+POLICY. None: that of `config`, or the kind's default.
        config: FILE or FILE:METHOD, see `find_config`. None: the file for the method and the task's suite.
        env_name: the task. None: the default task, or data alone.
        has_data: whether there are data of the user's own.
        network: of online methods, the size of their networks.
    Raises:
        UserError: if there is no such method, task or file, or the two name different methods.
    """
    file, _, own = (config or "").partition(":")
    for name in (method, own):
        if name:
            check_method(name, kind)
    if method and own and own != method:
        raise UserError(f"--method={method}: --config={config} names another method: leave out one")
    chosen = own or method
    task_name, suite = env_name or "", OWN.name if has_data else "pointmaze"  # which the default task is of
    if env_name and ":" in env_name and kind is not ONLINE_TRAINING:
        suite = OWN.name  # the user's own environment, which the run imports
    elif env_name:
        task = get_task(env_name)
        task_name, suite = name_in_dm_control(task), task.suite.name
    if config is None:
        chosen = chosen or kind.default
        found = _file_for(method_of(chosen), kind, suite)
    else:
        found = find_config(file)
    return ConfigFile(found, load_config(found, kind, chosen, task_name, network))


def _file_for(method: str, kind: Kind, suite: str) -> Path:
    """Returns the file in the package's configs/ for a method and a suite."""
    folder = shipped("configs")
    if kind is ONLINE_TRAINING:
        return folder / f"{method.removesuffix('_dq')}{ENDING}.py"
    file = folder / file_for_suite(suite)
    finetuning = file.with_name(f"{file.stem.removesuffix(ENDING)}_finetune{ENDING}.py")
    return finetuning if kind is FINETUNING and finetuning.exists() else file


def load_config(
    file: Path, kind: Kind, method: str | None = None, env_name: str = "", network: str = "paper"
) -> ConfigDict:
    """Returns what the file's get_config gives for the method, or for its default if None.

    The task's name and the size of the networks are passed to it if it has such parameters.

    Raises:
        UserError: if the file does not load, or gives no config of that kind.
    """
    arguments = {"env_name": env_name, "network": network}
    if method:
        arguments["algorithm"] = method
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


def for_kind(config: ConfigDict, kind: Kind) -> ConfigDict:
    """Returns the config without the settings of other kinds; UserError if its method is of another one."""
    check_method(config.algorithm, kind)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for name in METHOD_SETTINGS - settings_of(kind.settings).keys():
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
