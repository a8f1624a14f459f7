"""Describes the environment in which scores were earned, for reports.

docs/tasks.md says how close each environment is to D4RL's.
"""

import importlib.metadata
from typing import Any

from xql_jax.envs import Simulation
from xql_jax.tasks import COMPILED, OWN, PLAYGROUND, Task

# By suite: packages, apart from MuJoCo, that provide its environments' models or rules.
_PACKAGES: dict[str, tuple[str, ...]] = {
    "locomotion": ("gymnasium",),
    "antmaze": ("gymnasium",),
    "kitchen": ("gymnasium-robotics",),
    "adroit": ("gymnasium-robotics",),
    "dm_control": ("dm_control",),
    "gymnasium": ("gymnasium",),
}


def describe_environment(task: Task, simulation: Simulation) -> dict[str, Any]:
    """Returns a task's environment as JSON values.

    `simulator` is the package that simulates. `versions` are those of all packages that determine a step's
    result; null if a package is not installed under that name. `described_in` is the section of the guide
    that says in which respects the environment equals D4RL's.
    """
    packages: tuple[str, ...]
    guide = "tasks"
    if task.suite == COMPILED:
        is_own = not task.name.startswith(f"{PLAYGROUND}:")
        packages = ("jax",) if is_own else ("mujoco-mjx", "playground", "mujoco", "jax")
        guide, section = "compiled", "your-own-environment" if is_own else "what-differs"
    elif task.suite == OWN:
        packages, section = ("gymnasium",), OWN
    elif simulation.env_backend == "mujoco":
        packages, section = ("mujoco", *_PACKAGES.get(task.suite, ())), task.suite
    elif task.suite == "bullet":
        packages, section = ("pybullet", "d4rl", "gym"), "bullet"
    else:
        packages, section = ("mujoco-py", "d4rl", "gym"), "backend-d4rl"
    return {
        "backend": simulation.env_backend,
        "simulator": packages[0],
        "versions": {package: _version(package) for package in packages},
        "legacy_inertia": simulation.legacy_inertia,
        "described_in": f"docs/{guide}.md#{section}",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
