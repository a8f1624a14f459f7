"""Environments by task. A new suite is a class that takes a `Task`, and one line in SUITES."""

import contextlib
import dataclasses
import functools
import importlib
import os
import pkgutil
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

from xql_jax.envs.vector import Local, VectorEnv
from xql_jax.errors import UserError
from xql_jax.files import sources_digest
from xql_jax.tasks import COMPILED, LIBRARIES, OWN, PLAYGROUND, Task
from xql_jax.types import ActionBounds

CORES = os.cpu_count() or 1
BACKENDS = ("mujoco", "d4rl")


class Simulation(NamedTuple):
    """Which environment of a task is meant."""

    env_backend: str = "mujoco"  # one of `BACKENDS`: this project's environments, or D4RL's own
    legacy_inertia: bool = False  # capsules have the masses of MuJoCo before 2.1.2, as in D4RL's data


OURS = Simulation()


def _by(name: str) -> Callable[..., Any]:
    """Returns a function that makes environments of a class "module:Class", imported at the first call."""
    return lambda task, **options: pkgutil.resolve_name(f"{__name__}.{name}")(task, **options)


@dataclasses.dataclass(frozen=True)
class Suite:
    """How to make a suite's environments, and how many are worth having."""

    # Takes a Task, and `legacy_inertia` if the suite offers it. Of compiled environments it makes all.
    make: Callable[..., Any]
    num_threads: int = 1  # in parallel; pays for steps of a millisecond, slows those of microseconds
    max_environments: int = 64  # at once, or one per evaluated policy if that is more: few if they are costly
    has_legacy_inertia: bool = False  # robots whose masses today's MuJoCo computes differently from D4RL's
    packages: tuple[str, ...] = ("mujoco",)  # the simulator, then others with models or rules

    def vector_env(self, task: Task, num_envs: int) -> VectorEnv:
        """Returns N environments of the task in this process."""
        if task.suite == COMPILED:
            return self.make(task, num_envs=num_envs)
        return Local(functools.partial(self.make, task), num_envs, self.num_threads)

    def sizes(self, task: Task) -> tuple[int, int]:
        """Returns the lengths of an observation and of an action; makes an environment for it."""
        with contextlib.closing(self.vector_env(task, 1)) as env:
            return env.observation_space.shape[0], env.action_space.shape[0]


_GYMNASIUM, _ROBOTICS = ("mujoco", "gymnasium"), ("mujoco", "gymnasium-robotics")
SUITES = {
    "maze2d": Suite(_by("point_maze:PointMaze")),
    "pointmaze": Suite(_by("point_maze:PointMaze")),
    # A sixth of a step holds the GIL, and an environment takes 0.25 s and 56 MB.
    "kitchen": Suite(_by("robotics:Kitchen"), min(CORES, 8), max_environments=16, packages=_ROBOTICS),
    # Two threads on two cores make 1.5 times as many steps as one.
    "adroit": Suite(_by("robotics:Adroit"), min(CORES, 4), packages=_ROBOTICS),
    # Ten environments per call: two threads gain a third in hopper and walker2d, and lose 6% in halfcheetah.
    "locomotion": Suite(
        _by("locomotion:Locomotion"), min(CORES, 2), has_legacy_inertia=True, packages=_GYMNASIUM
    ),
    # Steps of 0.25 ms, of which a tenth holds the GIL: a second thread gains three quarters.
    "antmaze": Suite(_by("ant_maze:AntMaze"), min(CORES, 8), has_legacy_inertia=True, packages=_GYMNASIUM),
    # Steps of 1 to 9 ms, mostly Python.
    "ogbench": Suite(_by("ogbench:OGBench"), max_environments=16, packages=("mujoco", "ogbench")),
    "dm_control": Suite(_by("dm_control:DMControl"), packages=("mujoco", "dm_control")),
    "gymnasium": Suite(_by("registered:Registered"), packages=_GYMNASIUM),
    OWN: Suite(_by("registered:Registered"), packages=("gymnasium",)),
    COMPILED: Suite(
        _by("compiled:CompiledEnv"),
        max_environments=4096,
        packages=("mujoco-mjx", "playground", "mujoco", "jax"),
    ),
}


def choose_suite(task: Task, simulation: Simulation = OURS) -> Suite:
    """Returns the suite of a task in a simulation, or raises UserError; its `make` takes the task alone."""
    if simulation.env_backend == "d4rl":
        if simulation.legacy_inertia:
            raise UserError(
                "--legacy_inertia is for --env_backend=mujoco: D4RL's own MuJoCo has those masses"
            )
        from xql_jax.envs.d4rl_backend import d4rl_suite

        return d4rl_suite(task)
    if task.suite not in SUITES:
        raise UserError(
            f"no environment for {task.name} (suite {task.suite}), only D4RL's own: give --env_backend=d4rl, "
            f"or train with --eval_episodes=0; there are environments for: {', '.join(SUITES)}"
        )
    suite = SUITES[task.suite]
    if not simulation.legacy_inertia:
        return suite
    if not suite.has_legacy_inertia:
        known = ", ".join(name for name, suite in SUITES.items() if suite.has_legacy_inertia)
        raise UserError(f"--legacy_inertia changes nothing in the suite {task.suite}; it is for: {known}")
    return dataclasses.replace(suite, make=functools.partial(suite.make, legacy_inertia=True))


def action_bounds(task: Task | None) -> ActionBounds:
    """Returns the bounds of a task's actions, which are others than ±1 only in Gymnasium's registry."""
    if task is None or task.suite not in ("gymnasium", OWN):
        return ActionBounds()
    with contextlib.closing(SUITES[task.suite].vector_env(task, 1)) as env:
        return ActionBounds.of(env.action_space)


def describe_environment(task: Task, simulation: Simulation) -> dict[str, Any]:
    """Returns the environment in which a task's scores were earned, as JSON values, for reports.

    `versions` are those of all packages that determine a step's result, null if there is none of that name;
    of a user's module, a digest of its sources.
    `described_in` is the section of the guide that says in which respects the environment equals D4RL's.
    """
    page, section = "tasks", task.suite
    packages: tuple[str, ...] = "pybullet", "d4rl", "gym"
    if task.suite in SUITES and simulation.env_backend == "mujoco":
        packages = SUITES[task.suite].packages
    elif task.suite != "bullet":
        section, packages = "backend-d4rl", ("mujoco-py", "d4rl", "gym")
    if task.suite == COMPILED:
        page, section = "compiled", "what-differs"
        if not task.name.startswith(f"{PLAYGROUND}:"):
            section, packages = "your-own-environment", ("jax",)
    return {
        "backend": simulation.env_backend,
        "simulator": packages[0],
        "versions": {package: _version(package) for package in packages} | own_sources(task),
        "legacy_inertia": simulation.legacy_inertia,
        "described_in": f"docs/{page}.md#{section}",
    }


def own_sources(task: Task) -> dict[str, str | None]:
    """Returns digests of the sources of a user's environment, by the names of its module and its class's.

    Of `LIBRARIES` it returns the versions.
    """
    if task.suite not in (OWN, COMPILED):
        return {}
    module, _, name = task.name.partition(":")
    modules = [module]
    if task.suite == OWN:
        gymnasium: Any = importlib.import_module("gymnasium")  # takes half a second
        entry = gymnasium.spec(name).entry_point
        modules.append(entry.partition(":")[0] if isinstance(entry, str) else entry.__module__)
    roots = {module.partition(".")[0] for module in modules} - {"xql_jax"}
    return {root: _version(root) if root in LIBRARIES else sources_digest(root) for root in sorted(roots)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
