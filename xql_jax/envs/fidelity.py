"""In which environment scores were earned, for reports. How near it is to D4RL's is said in docs/tasks.md."""

import importlib.metadata
from typing import Any

from xql_jax.tasks import Task

# By suite: the packages, beside MuJoCo, whose models or rules its environments take.
_PACKAGES: dict[str, tuple[str, ...]] = {
    "locomotion": ("gymnasium",),
    "antmaze": ("gymnasium",),
    "kitchen": ("gymnasium-robotics",),
    "adroit": ("gymnasium-robotics",),
    "dm_control": ("dm_control",),
    "gymnasium": ("gymnasium",),
}


def describe_environment(task: Task, env_backend: str, legacy_inertia: bool) -> dict[str, Any]:
    """Returns the environment of a task as JSON values.

    `simulator` is the package that simulates, `versions` are those of all packages that decide what a step
    does, null where a package is not installed as one; `described_in` is the section of the guide that says
    what of the environment equals D4RL's.
    """
    if env_backend == "mujoco":
        packages, section = ("mujoco", *_PACKAGES.get(task.suite, ())), task.suite
    elif task.suite == "bullet":
        packages, section = ("pybullet", "d4rl", "gym"), "bullet"
    else:
        packages, section = ("mujoco-py", "d4rl", "gym"), "backend-d4rl"
    return {
        "backend": env_backend,
        "simulator": packages[0],
        "versions": {package: _version(package) for package in packages},
        "legacy_inertia": legacy_inertia,
        "described_in": f"docs/tasks.md#{section}",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
