"""Environments by task: how they are made, and what they are."""

import contextlib
import dataclasses
import functools
import os
import pkgutil
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

from xql_jax.envs.vector import Local, VectorEnv
from xql_jax.errors import UserError
from xql_jax.files import sources_digest
from xql_jax.suites.tasks import LIBRARIES, SUITES, Task
from xql_jax.types import ActionBounds, Environment, Json

CORES = os.cpu_count() or 1


class Simulation(NamedTuple):
    """Which environment of a task is meant."""

    legacy_inertia: bool = False  # capsules have the masses of MuJoCo before 2.1.2, as in D4RL's data


OURS = Simulation()


def make_environment(task: Task, **options: object) -> Environment:
    """Returns a new environment of the class that the task's suite names, which is imported here."""
    return pkgutil.resolve_name(task.suite.environment)(task, **options)


@dataclasses.dataclass(frozen=True)
class EnvironmentMaker:
    """How environments are made, and how many are worth having."""

    make: Callable[..., Environment] = make_environment
    num_threads: int = 1  # in parallel
    max_environments: int = 64  # at once, or one per evaluated policy if that is more

    def vector_env(self, task: Task, num_envs: int) -> VectorEnv:
        """Returns N environments of the task in this process."""
        if task.suite.is_compiled:
            return pkgutil.resolve_name(task.suite.environment)(task, num_envs)
        return Local(functools.partial(self.make, task), num_envs, self.num_threads)

    def sizes(self, task: Task) -> tuple[int, int]:
        """Returns the lengths of an observation and of an action; makes an environment for it."""
        with contextlib.closing(self.vector_env(task, 1)) as env:
            return env.observation_space.shape[0], env.action_space.shape[0]


def environment_maker(task: Task, simulation: Simulation = OURS) -> EnvironmentMaker:
    """Returns what makes the task's environments in a simulation; UserError if there are none."""
    suite = task.suite
    make: Callable[..., Environment] = make_environment
    if simulation.legacy_inertia:
        if not suite.has_legacy_inertia:
            known = ", ".join(name for name, other in SUITES.items() if other.has_legacy_inertia)
            raise UserError(f"--legacy_inertia changes nothing in the suite {suite.name}; it is for: {known}")
        make = functools.partial(make_environment, legacy_inertia=True)
    return EnvironmentMaker(make, min(CORES, suite.max_threads), suite.max_environments)


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


def describe_environment(task: Task, simulation: Simulation) -> Json:
    """Returns the environment in which a task's scores were earned, as JSON values, for reports.

    `versions` has all packages that determine a step's result, null for one that is not installed, and for
    a user's module a digest of its sources.
    """
    packages = task.suite.packages
    return {
        "versions": {package: _version(package) for package in packages} | own_sources(task),
        "legacy_inertia": simulation.legacy_inertia,
    }


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
