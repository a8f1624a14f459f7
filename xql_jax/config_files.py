"""Config files: a suite's values for its methods, as tables of rows.

A file's `get_config(text)` returns the config of METHOD[+POLICY][@TAG...]: xql@antmaze-umaze-v0@tuned. Tags
are the task, and what is done: `finetune`, `tuned` (Table 4), `small` (networks for a laptop). A config is
flat: `algorithm` and `suite` say what it is for, and all else are hyperparameters and settings of
`method_settings.py`, by name. Its values come in layers, of which later ones win: the fields' own defaults,
the method's (`Method`), the file's rows, its rows for the tags. After these come what the user gives, and
--sweep.
"""

import functools
import inspect
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from xql_jax.errors import UserError, nearest
from xql_jax.learners.registry import (
    IN_SAMPLE,
    ONLINE,
    all_hyperparameters,
    make_learner,
    method_named,
    method_of,
)
from xql_jax.method_settings import METHOD_SETTINGS, BufferSettings, FinetuningSettings
from xql_jax.paths import located
from xql_jax.settings import settings_of, values_of
from xql_jax.tasks import SUITES, own_attribute

# Values by who has them: "all" methods, the "in_sample" ones and users' own, or names of methods by spaces.
Rows = Mapping[str, Mapping[str, Any]]
NONE: Rows = {}
XQL = "xql value_iteration q_iteration"  # the methods that take XQL's values
ENDING = "_config"


def config_of(
    text: str, suite: str = "", rows: Rows = NONE, when: Mapping[str, Rows] | None = None, tuned: Rows = NONE
) -> ConfigDict:
    """Returns the locked config of METHOD[+POLICY][@TAG...].

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
    recipe, settings = (
        method_named(method),
        settings_of(BufferSettings if method in ONLINE else FinetuningSettings),
    )
    values = {one: setting.usual for one, setting in settings.items()} | values_of(make_learner(name))
    config = ConfigDict({"algorithm": name, "suite": suite, **values}).lock()
    config.update(recipe.settings)
    given = [one for start, one in (when or {}).items() if any(tag.startswith(start) for tag in tags)]
    for who, row in [pair for table in (rows, *given) for pair in table.items()]:
        if who == "in_sample" and (method in IN_SAMPLE or ":" in method):
            _set(config, {one: value for one, value in row.items() if one not in recipe.defaults})
        elif who == name:
            config.update(with_every_width(row, config))
        elif who == "all" or method in who.split():
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


def with_every_width(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values with `hidden_dims`, if given, replaced by the widths of every network."""
    others = {name: value for name, value in values.items() if name != "hidden_dims"}
    if "hidden_dims" not in values:
        return others
    return {name: values["hidden_dims"] for name in known if name.endswith("_hidden_dims")} | others


@functools.cache
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


def load(file: Path, method: str | None = None, *tags: str) -> ConfigDict:
    """Returns the config that the file gives for METHOD[+POLICY], or for its own default, and tags.

    Raises:
        UserError: if the file does not load, or gives no config.
    """
    try:
        get_config = runpy.run_path(str(file))["get_config"]
        parameters = [*inspect.signature(get_config).parameters.values()]
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
    if method and config.algorithm != method:
        raise UserError(f"--config={file}: gives a config of {config.algorithm}: leave out {method}")
    return config
