"""Environments by task: how they are made, and what they are."""

import contextlib
import dataclasses
import functools
import os
import pkgutil
from collections.abc import Callable
from importlib import metadata

from xql_jax.envs.vector import Local, VectorEnv
from xql_jax.files import sources_digest
from xql_jax.suites.tasks import LIBRARIES, Task
from xql_jax.types import ActionBounds, Environment

CORES = os.cpu_count() or 1


def make_environment(task: Task, **options: object) -> Environment:
    """Returns a new environment of the class that the task's suite names, which is imported here."""
    return pkgutil.resolve_name(task.suite.environment)(task, **options)


@dataclasses.dataclass(frozen=True)
class EnvironmentMaker:
    """How environments are made, and how many are worth having."""

    make: Callable[..., Environment] = make_environment
    num_threads: int = 1  # in parallel
    max_environments: int = 64  # at once, or as many as evaluated policies, if these are more

    def vector_env(self, task: Task, num_envs: int) -> VectorEnv:
        """Returns N environments of the task in this process."""
        if task.suite.is_compiled:
            return pkgutil.resolve_name(task.suite.environment)(task, num_envs)
        return Local(functools.partial(self.make, task), num_envs, self.num_threads)

    def sizes(self, task: Task) -> tuple[int, int]:
        """Returns the lengths of an observation and of an action; makes an environment for it."""
        with contextlib.closing(self.vector_env(task, 1)) as env:
            return env.observation_space.shape[0], env.action_space.shape[0]


def environment_maker(task: Task) -> EnvironmentMaker:
    """Returns what makes the task's environments."""
    suite = task.suite
    return EnvironmentMaker(make_environment, min(CORES, suite.max_threads), suite.max_environments)


def action_bounds(task: Task | None) -> ActionBounds:
    """Returns the bounds of a task's actions, which are others than ±1 only in Gymnasium's registry."""
    if task is None or not task.suite.is_registered:
        return ActionBounds()
    with contextlib.closing(EnvironmentMaker().vector_env(task, 1)) as env:
        return ActionBounds.of(env.action_space)


def own_sizes(task: Task | None) -> tuple[int, int] | None:
    """Returns the lengths of an observation and of an action of a task in Gymnasium's registry, else None."""
    if task is None or not task.suite.is_registered:
        return None
    return EnvironmentMaker().sizes(task)


def versions_of(task: Task) -> dict[str, str | None]:
    """Returns the versions of all packages that determine a step's result, None for a missing package.

    For a user's module it is a digest of its sources.
    """
    return {package: _version(package) for package in task.suite.packages} | own_sources(task)


def own_sources(task: Task) -> dict[str, str | None]:
    """Returns digests of a user's environment's modules by name; of those in `LIBRARIES`, the versions."""
    module, colon, name = task.name.partition(":")
    if not colon:
        return {}
    modules = [module]
    if not task.suite.is_compiled:
        import gymnasium  # takes half a second

        entry = gymnasium.spec(name).entry_point
        modules.append(entry.partition(":")[0] if isinstance(entry, str) else entry.__module__)
    roots = {module.partition(".")[0] for module in modules} - {"xql_jax"}
    return {root: _version(root) if root in LIBRARIES else sources_digest(root) for root in sorted(roots)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
