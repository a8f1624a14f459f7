"""The files in configs/: where they are, how one is chosen, and how it is loaded."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.errors import UserError, nearest
from xql_jax.learners.registry import ONLINE as ONLINE_METHODS
from xql_jax.learners.registry import method_of
from xql_jax.tasks import COMPILED, OWN, Task, get_task

# A kind of config: the command that trains with it, the function that makes it, and its entries in `about`.
Kind = tuple[str, str, set[str]]
OFFLINE: Kind = ("xql-train-offline", "suite_config", {"suites", "tuned", "run", "finetune"})
ONLINE: Kind = ("xql-train-online", "online_config", {"small", "by_task"})

ENDING = "_config"
# The name in configs/NAME_config.py for each suite with another name. own: every method's own defaults.
FILE_BY_SUITE = {
    "locomotion": "mujoco",
    "bullet": "mujoco",
    "gymnasium": "mujoco",
    "maze2d": "pointmaze",
    "dm_control": OWN,
    COMPILED: OWN,
}
FILE_WITHOUT_TASK = f"pointmaze{ENDING}.py"  # used if neither a task nor data is given: the embedded maze


def shipped(folder: str) -> Path:
    """Returns the path of `configs` or `experiments`: in the installed package, or next to it in a clone."""
    package = Path(__file__).resolve().parent
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder


def find_config(name: str) -> Path:
    """Returns the file that a user means by its path or its name.

    The path itself is tried first. For a bare name, or a name in `configs/`, the folder `configs` in the
    current folder is tried next, then the configs that come with the package. `kitchen` is short for
    `kitchen_config.py`.

    Raises:
        UserError: if no such file exists; the message names similar ones.
    """
    path = Path(name)
    is_bare = path.parent in (Path(), Path("configs"))
    names = (path.name, f"{path.stem}.py", f"{path.stem}{ENDING}.py") if is_bare else ()
    places = [path, *(folder / each for folder in (Path("configs"), shipped("configs")) for each in names)]
    for place in places:
        if place.is_file():
            return place
    beside = sorted(str(other) for other in path.parent.glob(f"*{ENDING}.py"))
    if beside and not is_bare:
        raise UserError(f"--config: no file {name!r}; nearest there: {nearest(name, beside)}")
    known = [file.stem.removesuffix(ENDING) for file in shipped("configs").glob(f"*{ENDING}.py")]
    raise UserError(
        f"--config: no file {name!r}; configs/ of the package has: {', '.join(sorted(known))} (write "
        "--config=NAME or --config=NAME:METHOD)"
    )


def file_for_suite(suite: str) -> str:
    """Returns the name of the offline config for the tasks of a suite (see `Task.suite`)."""
    return f"{FILE_BY_SUITE.get(suite, suite)}{ENDING}.py"


def file_for_task(env_name: str | None, has_data: bool) -> str:
    """Returns the name of the offline config to use if --config is not given."""
    if env_name is None:
        return file_for_suite(OWN) if has_data else FILE_WITHOUT_TASK
    if ":" in env_name:  # the user's own environment, which must not be imported yet
        return file_for_suite(OWN)
    try:
        return file_for_suite(get_task(env_name).suite)
    except UserError:  # unknown task: the run reports that later
        return FILE_WITHOUT_TASK


def file_for(
    method: str, task: Task | None, is_finetuning: bool = False, folder: Path | None = None
) -> Path | None:
    """Returns the file for a method on a task; None if there is none for the task's suite.

    Args:
        method: METHOD or METHOD+POLICY.
        task: None if there are data but no task.
        is_finetuning: whether to use the suite's file for fine-tuning, if it has one.
        folder: the folder of the files; None: the configs of the package.
    """
    folder = folder or shipped("configs")
    algorithm = method_of(method)
    if algorithm in ONLINE_METHODS:
        return folder / f"{algorithm.removesuffix('_dq')}{ENDING}.py"
    file = folder / file_for_suite(task.suite if task else OWN)
    finetuning = file.with_name(f"{file.stem.removesuffix(ENDING)}_finetune{ENDING}.py")
    if is_finetuning and finetuning.exists():
        return finetuning
    return file if file.exists() else None


def load_config(path: str, kind: Kind) -> ConfigDict:
    """Loads a config with the file's get_config.

    Args:
        path: FILE or FILE:METHOD, see `find_config`.
        kind: `OFFLINE` or `ONLINE`.
    Raises:
        UserError: if there is no such file, it does not load, or it gives no config of that kind.
    """
    name, *method = path.split(":", 1)
    if not name:
        raise UserError("--config is empty: give it a file, see configs/")
    file = find_config(name)
    try:
        config = runpy.run_path(str(file))["get_config"](*method)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code, and may fail in any way
        raise UserError(f"--config: {name} does not load: {type(error).__name__}: {error}") from error
    about = config.get("about") if isinstance(config, ConfigDict) else None
    kinds = [each for each in (OFFLINE, ONLINE) if isinstance(about, ConfigDict) and each[2] <= set(about)]
    if kind not in kinds:
        hint = f"that is for {kinds[0][0]}" if kinds else f"make it by xql_jax.configuration.{kind[1]}"
        raise UserError(f"--config={name}: gives no config for {kind[0]}: {hint}")
    return config
