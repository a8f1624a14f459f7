"""The tasks by name, and the tasks that a user names: environments of their own, reference returns."""

import dataclasses
import importlib
import pkgutil
import sys
from typing import NamedTuple

from xql_jax import suites
from xql_jax.errors import UserError, nearest, others_code
from xql_jax.files.paths import located
from xql_jax.suites import RETURN_ITSELF, Suite, Task
from xql_jax.suites.online import COMPILED, DM_CONTROL_NAMES, OWN, PLAYGROUND_MODULE

# Modules that are no user's own.
LIBRARIES = ("gymnasium", "gymnasium_robotics", PLAYGROUND_MODULE, "xql_jax")

# The suites by name. Each other file of this folder has some, its `RECORDS`.
_FILES = [f"{suites.__name__}.{file.name}" for file in pkgutil.iter_modules(suites.__path__)]
_MODULES = [importlib.import_module(name) for name in _FILES if name != __name__]
SUITES: dict[str, Suite] = {suite.name: suite for module in _MODULES for suite in module.RECORDS}
LISTED_TASKS = {task.name: task for suite in SUITES.values() for task in suite.tasks()}
TASKS = {name: task for name, task in LISTED_TASKS.items() if task.has_data}  # others are learned online


class References(NamedTuple):
    """Reference returns that a dataset brings for scoring, in the task's reward units."""

    random_return: float  # a random policy's: score 0
    expert_return: float  # an expert's: score 100

    def score(self, undiscounted: float) -> float:
        """Returns D4RL's score of a return."""
        return 100.0 * (undiscounted - self.random_return) / (self.expert_return - self.random_return)


def referenced(task: Task, references: References | None) -> Task:
    """Returns the task with the reference returns from its data, unless the data are D4RL's or OGBench's."""
    if references is None or task.has_data:
        return task
    return dataclasses.replace(task, min_return=references.random_return, max_return=references.expert_return)


def get_task(name: str) -> Task:
    """Returns the task of that name; MODULE:NAME and Gymnasium's are users' own. UserError if unknown."""
    if name in LISTED_TASKS:
        return LISTED_TASKS[name]
    module, colon, _ = name.partition(":")
    if colon and module != PLAYGROUND_MODULE:
        return _own_task(name)
    import gymnasium  # takes half a second, which known tasks can save

    # HalfCheetah-v2 and -v3 are registered, but gone: their simulator was mujoco-py.
    others = {
        known for known in gymnasium.registry if known.endswith("-v4") or f"{known[:-1]}5" not in LISTED_TASKS
    }
    if name in others:
        return _own_task(f"gymnasium:{name}")
    known = DM_CONTROL_NAMES if colon else {*LISTED_TASKS, *others}
    near = nearest(name.removeprefix("dm_control/"), known)
    what = "gone from Gymnasium: " if name in gymnasium.registry else "unknown environment "
    how = (
        "a task of your own or of another package is MODULE:NAME, such as gymnasium_robotics:AdroitHandPen-v1"
    )
    if name.startswith(("D4RL/", "mujoco/")):
        how = f"Minari's data are --dataset=minari:{name}"
    raise UserError(f"{what}{name!r}; nearest known: {near}; {how}")


def module_to_run(name: str) -> str:
    """Returns the user's module whose code `get_task` would run for MODULE:NAME; "" if it would run none."""
    module, colon, _ = name.partition(":")
    is_known = module in sys.modules or module.partition(".")[0] in LIBRARIES
    return "" if is_known or not colon else module


def own_attribute(name: str, flag: str = "--env_name") -> object:
    """Returns the attribute NAME of MODULE:NAME, None if it has none; UserError if MODULE does not import."""
    module, _, attribute = name.partition(":")
    # sys.path has the script's folder, not the current one, in which a library's name may be another's code.
    if module_to_run(name) and (here := str(located("."))) not in sys.path:
        sys.path.append(here)
    with others_code(f"{flag}={name}: the module {module!r} does not import here"):
        return getattr(importlib.import_module(module), attribute, None)


def _own_task(name: str) -> Task:
    """Returns the task for MODULE:NAME, which MODULE registers with Gymnasium, or a JAX environment in it."""
    import gymnasium

    attribute = own_attribute(name)
    module, _, registered = name.partition(":")
    suite = OWN
    try:
        limit = gymnasium.spec(registered).max_episode_steps
    except gymnasium.error.Error as error:
        if not hasattr(attribute, "episode_limit"):
            raise UserError(
                f"--env_name={name}: {module} registers no such environment ({error}), nor is it there as an "
                "environment in JAX, a class with an episode_limit. For a class of Gymnasium's, give "
                f"--env_name={name}-v0 and put into {module}: gymnasium.register('{registered}-v0', "
                f"entry_point='{name}', max_episode_steps=STEPS)"
            ) from error
        suite, limit = COMPILED, attribute.episode_limit
    ends_itself = limit is None and not suite.is_compiled
    if not ends_itself and not (isinstance(limit, int) and limit > 0):
        raise UserError(
            f"--env_name={name}: episodes of {limit} steps: give max_episode_steps (in JAX, episode_limit) "
            "of at least 1; Gymnasium's may be left out if the environment ends its episodes itself"
        )
    return Task(name, suite, None, *RETURN_ITSELF, limit)
