"""Versions and machine, on which a run's numbers depend besides its settings."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import jax

import xql_jax
from xql_jax.envs import own_sources, versions_of
from xql_jax.files import sources_digest
from xql_jax.suites.tasks import Task
from xql_jax.types import Json

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "gymnasium", "mujoco")


def versions() -> dict[str, str]:
    """Returns the versions, by name, of this package, of Python and of the installed `PACKAGES`."""
    ours = {"xql_jax": xql_jax.__version__, "python": platform.python_version()}
    return ours | {name: importlib.metadata.version(name) for name in PACKAGES}


@functools.cache
def code_digest() -> str:
    """Returns a digest of this package's sources, the same in a checkout and installed from a wheel."""
    return sources_digest("xql_jax")


def commit() -> str | None:
    """Returns the commit of the running source tree; None for an installed package or without git."""
    root = Path(xql_jax.__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        if (root / ".git").exists():
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None


def surroundings(task: Task | None, method: str) -> Json:
    """Returns what config.json records of program, environment and machine at each start of a run."""
    machine = {  # what affects XLA's programs
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cores": _cores(),
        "processor": _processor(),
        **{name: os.environ.get(name, "") for name in ("XLA_FLAGS", "NVIDIA_TF32_OVERRIDE")},
    }
    used = versions() | (versions_of(task) if task else {})
    used |= _method_source(method)
    return {"versions": used, "machine": machine, "commit": commit(), "code": code_digest()}


def differences(before: Json, now: Json) -> str:
    """Describes what has changed between two `surroundings`, except for the commit; "" if nothing has."""
    then, here = ({"code": at["code"], **at["versions"], **at.get("machine", {})} for at in (before, now))
    changed = [f"{name} {then.get(name)}, here {here[name]}" for name in here if here[name] != then.get(name)]
    if "cores" in then and then["cores"] != here.get("cores", then["cores"]):
        changed.append(f"set NPROC={then['cores']} in the environment to compute sums in the same order")
    return "; ".join(changed)


def other_code(content: Json, task: Task | None) -> str:
    """Describes how the code that a run of this config.json ended with differs from that here, or ""."""
    own = (own_sources(task) if task else {}) | _method_source(content["config"]["algorithm"])
    now = {"code": code_digest(), "versions": own}
    return differences([content, *content["resumed"]][-1], now)


def _method_source(method: str) -> dict[str, str]:
    """Returns the digest of the sources of a user's method, MODULE:NAME, by its module's name."""
    module, colon, _ = method.partition(":")
    root = module.partition(".")[0]
    return {root: sources_digest(root)} if colon else {}


def _cores() -> int:
    """Returns the number of threads over which XLA splits sums on a CPU: NPROC, else the process's cores."""
    number = os.environ.get("PJRT_NPROC") or os.environ.get("NPROC") or ""
    if number.isdigit():
        return max(1, int(number))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """Returns the processor's model; its architecture on systems other than Linux."""
    with contextlib.suppress(OSError):
        if model := re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return model[1].strip()
    return platform.machine()
