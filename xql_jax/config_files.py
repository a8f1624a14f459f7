"""The files in configs/: where they are, how one is chosen, and how it is loaded."""

import runpy
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from xql_jax.errors import UserError, nearest
from xql_jax.learners import registry
from xql_jax.learners.registry import method_of
from xql_jax.suites import SUITES
from xql_jax.suites.record import Suite
from xql_jax.tasks import OWN, get_task, own_attribute


class Kind(NamedTuple):
    """A kind of config: what trains with it, and the methods that it is for."""

    command: str
    function: str  # of `xql_jax`, which does the same
    methods: Collection[str]
    default: str  # the method if none is named


OFFLINE = Kind("xql-train-offline", "train", registry.OFFLINE, "xql")
FINETUNE = Kind("xql-train-finetune", "train_finetune", registry.OFFLINE, "xql")
ONLINE = Kind("xql-train-online", "train_online", registry.ONLINE, "xsac")

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
    is_method = method_of(name) in {*registry.OFFLINE, *registry.ONLINE}
    raise UserError(
        f"--config: no file {name!r}"
        + (f", but a method: give --method={name}" if is_method else "")
        + f"; configs/ of the package has: {', '.join(sorted(known))}"
    )


def file_for_suite(suite: Suite) -> str:
    """Returns the name of the offline config for the tasks of a suite."""
    return f"{suite.config}{ENDING}.py"


def check_method(algorithm: str, kind: Kind) -> None:
    """Raises UserError unless METHOD or METHOD+POLICY is one of the kind's; the line says what trains it."""
    name = method_of(algorithm)
    if ":" in name:
        own_attribute(name, "--method")  # imports it: a user named it, not a file of a run
    if name in kind.methods:
        return
    hint = f"nearest known: {nearest(name, kind.methods)}"
    for other in (OFFLINE, ONLINE):
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
) -> tuple[Path, ConfigDict]:
    """Returns the file that a user means, and the config that it gives for the method.

    Args:
        method: METHOD or METHOD+POLICY. None: that of `config`, or the kind's default.
        config: FILE or FILE:METHOD, see `find_config`. None: the file for the method and the task's suite.
        env_name: the task. None: the default task, or data alone.
        has_data: whether there are data of the user's own.
    Raises:
        UserError: if there is no such method, task or file, or the two name different methods.
    """
    file, _, own = (config or "").partition(":")
    if method is not None:
        check_method(method, kind)
        if own and own != method:
            raise UserError(f"--method={method}: --config={config} names another method: leave out one")
    if config is None:
        method = method or kind.default
        found = _file_for(method_of(method), kind, env_name, has_data)
    else:
        found = find_config(file)
    return found, load_config(found, kind, own or method)


def _file_for(method: str, kind: Kind, env_name: str | None, has_data: bool) -> Path:
    """Returns the file in the package's configs/ for a method and a task."""
    folder = shipped("configs")
    if kind is ONLINE:
        return folder / f"{method.removesuffix('_dq')}{ENDING}.py"
    suite = OWN if has_data else SUITES["pointmaze"]  # which the default task is of
    if env_name is not None:  # a name with a colon is of the user's own environment; the run imports it
        suite = OWN if ":" in env_name else get_task(env_name).suite
    file = folder / file_for_suite(suite)
    finetuning = file.with_name(f"{file.stem.removesuffix(ENDING)}_finetune{ENDING}.py")
    return finetuning if kind is FINETUNE and finetuning.exists() else file


def load_config(file: Path, kind: Kind, method: str | None = None) -> ConfigDict:
    """Returns what the file's get_config gives for the method, or for its default if None.

    Raises:
        UserError: if the file does not load, or gives no config of that kind.
    """
    try:
        config = runpy.run_path(str(file))["get_config"](*([method] if method else []))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code, and may fail in any way
        raise UserError(f"--config: {file} does not load: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict) or "about" not in config:
        raise UserError(f"--config={file}: gives no config: make it as the files in configs/ do")
    check_method(config.algorithm, kind)
    return config
