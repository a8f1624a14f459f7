"""A run's folder: where it is, what it was asked to do, and what came of it."""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

import xql_jax
from xql_jax.errors import UserError
from xql_jax.logs.csv_logger import write_atomically

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gymnasium", "mujoco")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """SAVE_DIR/ENV/ALGORITHM/RUN/, with RUN derived from `identity`: all that defines the run's numbers.

    So `--resume` finds its run, and a run with other settings never touches it.
    """

    save_dir: Path
    env_name: str
    algorithm: str
    seeds: Sequence[int]
    identity: Mapping[str, Any]

    @property
    def path(self) -> Path:
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:8]
        seeds = f"seed{self.seeds[0]}" if len(self.seeds) == 1 else f"seeds{self.seeds[0]}-{self.seeds[-1]}"
        return self.save_dir / self.env_name / self.algorithm / f"{seeds}_{digest}"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations.csv"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def open(self, resume: bool) -> None:
        """Makes the folder and writes config.json.

        Raises:
            UserError: if the run is there already and is not to be resumed, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if (self.path / "config.json").exists() and not resume:
                raise UserError(
                    f"this run exists: {self.path}; go on with --resume, or give another --save_dir or --seed"
                )
            config = {**self.identity, "versions": _versions(), "commit": _commit()}
            write_atomically(self.path / "config.json", json.dumps(config, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write to --save_dir: {error}") from None

    def finished_summary(self) -> dict[str, Any] | None:
        """Returns the summary if the run has ended."""
        if not self.summary.exists():
            return None
        summary = json.loads(self.summary.read_text())
        return summary if summary["status"] == "finished" else None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_atomically(self.summary, json.dumps(summary, indent=2) + "\n")


def fingerprint(arrays: Iterable[ArrayLike]) -> str:
    """A digest of the arrays' bytes: data that changed under the same name makes another run."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _versions() -> dict[str, str]:
    versions = {
        "xql_jax": xql_jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }
    return versions | {name: importlib.metadata.version(name) for name in PACKAGES}


def _commit() -> str | None:
    """The commit of the source tree that runs, None for an installed package or without git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
